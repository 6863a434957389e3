"""Scripts beside the package: each still fits it, and says how it is used."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BESIDE = sorted(path for folder in ("benchmarks", "examples") for path in (ROOT / folder).glob("*.py"))
SCRIPTS = [path for path in BESIDE if "__main__" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_starts(script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(script), run_name="__main__")
    assert left.value.code == 0
    assert "usage" in capsys.readouterr().out
