"""examples/average_weights.py on real files, through its command line."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

SCRIPT = Path(__file__).parents[1] / "examples" / "average_weights.py"


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, args)], capture_output=True, text=True, check=False)


def test_every_tensor_is_between_both(tmp_path: Path) -> None:
    first, second = {"a": torch.tensor([0.0, 2.0]).half()}, {"a": torch.tensor([4.0, 2.0]).half()}
    save_file(first, tmp_path / "1.safetensors", metadata={"model": "m"})
    save_file(second, tmp_path / "2.safetensors")
    out = tmp_path / "out.safetensors"
    done = run(tmp_path / "1.safetensors", tmp_path / "2.safetensors", out, "--share", "0.25")
    assert done.returncode == 0, done.stderr
    mixed = load_file(out)["a"]
    assert (mixed.tolist(), mixed.dtype) == ([1.0, 2.0], torch.float16)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"b": torch.zeros(2)}, "different tensors"),
        ({"a": torch.zeros(3)}, "different tensors"),
        (None, "No such file"),
    ],
)
def test_what_does_not_average_is_refused(tmp_path: Path, second: dict[str, torch.Tensor] | None, words: str) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "1.safetensors")
    if second is not None:
        save_file(second, tmp_path / "2.safetensors")
    done = run(tmp_path / "1.safetensors", tmp_path / "2.safetensors", tmp_path / "out.safetensors")
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "out.safetensors").exists()
