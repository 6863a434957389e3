"""The real VOT toolkit, from `vot evaluate` to `vot analysis`, on a tiny workspace.

It is GPL and has dependencies of its own, so it lives in a virtual environment beside ours (`.venv-vot`, made here
once) and runs in processes of its own.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.ground_truth import read_ground_truth
from duotrack.evaluation.longterm import longterm
from duotrack.evaluation.results import read_results
from vot_sequences import FRAMES, HEIGHT, WIDTH, write_vot_sequences

TESTS = Path(__file__).resolve().parent.parent
HOME = TESTS.parent / ".venv-vot"
pytestmark = pytest.mark.slow
NO_NETWORK = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")  # the toolkit looks for a newer one
STACK = """
title: short and long
experiments:
  short:
    type: multistart
    analyses:
      - {type: multistart_average_ar, name: ar}
      - {type: multistart_eao_score, name: eao, low: 2, high: 6}
  long:
    type: unsupervised
    repetitions: 1
    analyses:
      - {type: average_accuracy, name: accuracy, burnin: 1, ignore_invisible: true}
      - {type: average_tpr, name: tpr}
"""


@pytest.fixture(scope="module")
def toolkit() -> Path:
    """The interpreter of an environment that has the toolkit."""
    pins = TESTS / "vot_toolkit.txt"
    python = HOME / "bin" / "python"
    mark = HOME / f"installed-{hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]}"
    if not mark.exists():
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "-r", str(pins)]
        for step in ([sys.executable, "-m", "venv", "--clear", str(HOME)], pip):
            done = subprocess.run(step, capture_output=True, text=True, timeout=900, check=False)
            if done.returncode:
                reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
                pytest.skip(f"the VOT toolkit cannot be installed here: {' '.join(step[1:4])}: {reason}")
        mark.touch()
    return python


def vot(python: Path, *arguments: str) -> str:
    """Run the toolkit's command; what it said."""
    environment = {**os.environ, **NO_NETWORK, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    environment["VOT_RESULTS_BINARY"] = "false"  # boxes as text
    environment["PYTHONPATH"] = str(TESTS.parent / "src")  # the tracker is started in a folder of its own
    command = [str(python), "-m", "vot", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def results(toolkit, tmp_path_factory) -> tuple[Path, dict[str, list[list]]]:
    """The workspace after evaluation and analysis of a perfect tracker and ours, and the numbers of each."""
    root = tmp_path_factory.mktemp("vot")
    workspace = root / "workspace"
    write_vot_sequences(root / "sequences")
    options = ["--channels", "color,depth", "--device", "cpu", "--write-workspace", str(workspace)]
    options += ["--stack", "stack.yaml", "--sequences", str(root / "sequences")]
    done = CliRunner().invoke(app, ["vot", *options])
    assert done.exit_code == 0, done.output
    (workspace / "stack.yaml").write_text(STACK)
    with (workspace / "trackers.ini").open("a") as registry:
        for name, drift in (("perfect", 0), ("drifting", 2)):
            command = f"{toolkit} {TESTS / 'vot_scripted_tracker.py'} color,depth {drift}"
            registry.write(f"\n[{name}]\nprotocol = trax\ncommand = {command}\n")
    trackers = ["perfect", "drifting", "ckd-tiny"]
    said = vot(toolkit, "evaluate", "--workspace", str(workspace), *trackers)
    assert "concluded" in said
    said = vot(toolkit, "analysis", "--workspace", str(workspace), "--name", "numbers", *trackers)
    assert "incomplete" not in said
    numbers = json.loads((workspace / "analysis" / "numbers.json").read_text())
    analyses = {
        analysis["name"]: values
        for experiment in numbers["results"].values()
        for analysis, values in zip(experiment["parameters"]["analyses"], experiment["results"], strict=True)
    }
    order = list(numbers["trackers"])
    return workspace, {
        tracker: {name: values[order.index(tracker)] for name, values in analyses.items()} for tracker in trackers
    }


def test_a_perfect_tracker_is_perfect(results):
    perfect = results[1]["perfect"]
    assert perfect["accuracy"][0] == 1.0
    assert perfect["eao"] == [1.0]
    # Here the toolkit counts the frame that a tracker is started in as a miss. Each start is 6 frames, there are two;
    # of the long run the first of 13 frames with the target is the miss.
    accuracy, robustness = perfect["ar"][:2]
    assert (accuracy, robustness) == (pytest.approx(10 / 12), 1.0)
    assert perfect["tpr"] == pytest.approx([1.0, 12 / 13, 24 / 25])


def test_ckd_tiny_goes_through_evaluation_and_analysis(results):
    workspace, trackers = results
    ours = trackers["ckd-tiny"]
    assert ours["ar"][1] == 1.0  # never lost: overlaps stay above 0.1
    assert 0.3 < ours["accuracy"][0] < 1
    assert 0.3 < ours["tpr"][2] < 1
    (confidences,) = (workspace / "results" / "ckd-tiny" / "long").rglob("*confidence.value")
    rows = confidences.read_text().splitlines()
    assert rows[0] == ""  # the frame of the start
    values = np.array([float(row) for row in rows[1:]])
    assert len(values) == FRAMES - 1
    assert len(np.unique(values)) == FRAMES - 1
    assert ((values > 0) & (values < 1)).all()


@pytest.mark.parametrize("tracker", ["perfect", "drifting", "ckd-tiny"])
def test_our_long_term_measures_are_the_toolkits(results, tracker):
    """Its files, its frames, our arithmetic: boxes rounded to pixels and clipped as it does."""
    workspace, trackers = results
    truths = read_ground_truth(benchmark("depthtrack"), workspace / "sequences", names=["ball"])
    assert truths[0].size == (WIDTH, HEIGHT)
    ours = longterm(truths, read_results(workspace / "results" / tracker / "long", truths, box_format="ltwh"))
    assert [ours.precision, ours.recall, ours.F] == pytest.approx(trackers[tracker]["tpr"], abs=1e-12)


def test_the_toolkit_shows_why_our_tracker_left(toolkit, results, tmp_path):
    """Depth of 8 bits: the reason that the tracker gives stands in what the toolkit says."""
    import cv2

    sequences = write_vot_sequences(tmp_path / "sequences", ("flat",))
    assert cv2.imwrite(str(sequences / "flat" / "depth" / "00000001.png"), np.zeros((72, 96), np.uint8))
    workspace = tmp_path / "workspace"
    options = ["--channels", "color,depth", "--device", "cpu", "--write-workspace", str(workspace)]
    done = CliRunner().invoke(app, ["vot", *options, "--stack", "stack.yaml", "--sequences", str(sequences)])
    assert done.exit_code == 0, done.output
    (workspace / "stack.yaml").write_text("title: one\nexperiments:\n  long: {type: unsupervised, repetitions: 1}\n")
    said = vot(toolkit, "evaluate", "--workspace", str(workspace), "ckd-tiny")
    assert "pixels have 8 bits" in said


def test_the_documented_stacks_are_the_toolkits(toolkit):
    (stacks,) = (HOME / "lib").glob("python*/site-packages/vot/stack")
    documented = set(re.findall(r"--stack (vot[\w/]+)", (TESTS.parent / "docs" / "vot.md").read_text()))
    assert len(documented) >= 3
    assert [name for name in documented if not (stacks / f"{name}.yaml").is_file()] == []
