"""An exported network says what auxiliary frames it was trained on, and others are refused before it is opened."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
import torch
from typer.testing import CliRunner

import duotrack
from duotrack.cli import app
from duotrack.errors import InputError
from duotrack.evaluation.run import check_weights
from duotrack.models.zoo import MODELS, model_spec
from duotrack.runtime.backends import facts_of
from duotrack.runtime.convert import describe
from duotrack.runtime.graph_facts import BOTH, Wanted
from duotrack.weights.safetensor import save_weights
from duotrack.weights.task import trained_on
from sequences import write_sequence


@pytest.fixture
def exported(tmp_path) -> Path:
    """What `duotrack export` says of ckd-tiny trained on depth, in a file that holds no graph."""
    spec, weights = model_spec("ckd-tiny"), tmp_path / "depth.safetensors"
    torch.manual_seed(0)
    net = MODELS["ckd-tiny"].build()
    extra = {"task": "depth", "depth_colours": "rgb"}
    save_weights(weights, net, model="ckd-tiny", elimination="none", dtype="fp16", extra=extra)
    about = describe(net, spec, Wanted(BOTH, BOTH), precision="fp32", batch=1, trained=trained_on(spec, weights))
    path = tmp_path / "net.xml"
    facts = quoteattr(about.text())
    path.write_text(f"<net><rt_info><duotrack><facts value={facts}/></duotrack></rt_info></net>")
    path.with_suffix(".bin").write_bytes(b"numbers")
    assert (facts_of(path).task, facts_of(path).depth_colours) == ("depth", "rgb")
    return path


@pytest.mark.parametrize(
    ("wanted", "colours", "words"),
    [
        ("thermal", "bgr", "net.xml was trained on RGB and depth, the auxiliary frames are thermal"),
        ("depth", "bgr", "net.xml was trained on depth with depth_colours 'rgb', not 'bgr'"),
    ],
)
def test_export_refuses_other_frames(exported, wanted, colours, words):
    with pytest.raises(InputError, match=words):
        duotrack.load_tracker("ckd-tiny", weights=exported, modality=wanted, depth_colours=colours)


@pytest.mark.parametrize("command", ["evaluate", "vot"])
def test_commands_refuse_other_frames(exported, tmp_path, command):
    if command == "evaluate":
        write_sequence(tmp_path / "data", "one", 3)
        options = ["--dataset", "folder", "--root", tmp_path / "data", "--out", tmp_path / "out", "--device", "cpu"]
    else:
        pytest.importorskip("trax")
        options = ["--channels", "color,ir", "--write-workspace", tmp_path / "out", "--stack", "s"]
    done = CliRunner().invoke(app, [command, "--weights", str(exported), *map(str, options)])
    assert done.exit_code == 2
    assert "was trained on RGB and depth, the auxiliary frames are thermal" in done.output
    assert not (tmp_path / "out").exists()


def test_vot_takes_model_and_precision_from_the_export(exported, tmp_path):
    pytest.importorskip("trax")
    options = ["--channels", "color,depth", "--depth-colours", "rgb", "--write-workspace", tmp_path / "ws"]
    done = CliRunner().invoke(app, ["vot", "--weights", str(exported), *map(str, options), "--stack", "s"])
    assert done.exit_code == 0, done.output
    written = (tmp_path / "ws" / "trackers.ini").read_text()
    assert "--model ckd-tiny" in written
    assert "--precision" not in written


def test_both_files_of_an_export_tell_runs_apart(exported):
    before = check_weights("ckd-tiny", exported)
    exported.with_suffix(".bin").write_bytes(b"other numbers")
    assert check_weights("ckd-tiny", exported) != before
    exported.with_suffix(".bin").unlink()
    with pytest.raises(InputError, match=r"without its weights net\.bin"):
        check_weights("ckd-tiny", exported)
