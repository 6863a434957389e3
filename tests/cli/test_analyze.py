"""`duotrack analyze` and template options of other commands, through the real command line."""

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.models.zoo import MODELS
from duotrack.weights.safetensor import save_weights
from sequences import write_sequence


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in ("alpha", "beta"):
        write_sequence(root, name, 5)
    return root


@pytest.fixture(scope="module")
def tpf(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tpf.safetensors"
    save_weights(path, MODELS["tpf-tiny"].build(), model="tpf-tiny", elimination="none", dtype="fp16")
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "ckd.safetensors"
    save_weights(path, MODELS["ckd-tiny"].build(), model="ckd-tiny", elimination="none", dtype="fp16")
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def on(data: Path) -> list[object]:
    return ["--dataset", "folder", "--root", data, "--device", "cpu"]


def test_gap_of_two_streams_against_a_base(data, other, tmp_path):
    asked = ["analyze", "gap", *on(data), "--frames", 2, "--tokens", 8, "--base", other]
    done = run(*asked, "--out", tmp_path / "one", "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)
    assert numbers == json.loads((tmp_path / "one" / "gap.json").read_text())
    assert (numbers["model"], numbers["layers"], numbers["layer"]) == ("ckd-tiny", 7, 6)
    assert numbers["sampling"] == {"frames": 2, "tokens": 8, "layer": -1, "seed": 0}
    assert len(numbers["pairs"]["rgb-aux"]["features"]["mean"]) == 7
    assert numbers["base"]["pairs"]["rgb-aux"]["content"]["mean"] != numbers["pairs"]["rgb-aux"]["content"]["mean"]
    pictures = {name: (tmp_path / "one" / f"{name}.png").read_bytes() for name in ("layers", "clouds", "maps")}
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    words = run(*asked[:-2], "--out", tmp_path / "two", "--beside", tmp_path / "one" / "gap.json", "--seed", 1)
    assert words.exit_code == 0, words.output
    assert "ckd-tiny: squared MMD of rgb and aux in the last layer: features " in words.output
    assert (tmp_path / "two" / "layers.png").read_bytes() != pictures["layers"]


def test_gap_of_a_single_stream(data, tpf, tmp_path):
    asked = ["--model", "tpf-tiny", "--weights", tpf, "--frames", 2, "--tokens", 4, "--layer", 3, "--sequences", "beta"]
    done = run("analyze", "gap", *on(data), *asked, "--embedding", "tsne", "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)
    assert list(numbers["pairs"]) == ["fused-rgb", "fused-aux", "rgb-aux"]
    assert numbers["sequences"] == ["beta"]
    assert numbers["pairs"]["fused-rgb"]["features"]["standard_error"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--embedding", "umap"], "--embedding umap is not one of pca, tsne"),
        (["--model", "tpf-tiny"], "tpf-tiny has no weights inside the package: give a file with --weights"),
        (["--layer", "9"], "layer 9: the network has layers 0 (embedding) to 6"),
        (["--beside", "nothing.json"], "--beside nothing.json: no such file"),
        (["--base", "nothing.safetensors"], "nothing.safetensors: no such weights file"),
        (["--frames", "99", "--tokens", "99"], "at most 2048, take fewer of either"),
    ],
)
def test_bad_requests_are_one_line(data, tmp_path, arguments, words):
    done = run("analyze", "gap", *on(data), "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_tsne_without_scikit_learn_says_what_to_install(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    done = run("analyze", "gap", *on(data), "--out", tmp_path, "--embedding", "tsne")
    assert done.exit_code == 2
    assert "--embedding tsne needs scikit-learn, got none installed; pip install 'duotrack[eval]'" in done.stderr


def test_theta_is_fitted_and_drawn(data, tmp_path):
    asked = ["analyze", "theta", *on(data), "--model", "ckd-tiny", "--least-iou", "0.05"]
    done = run(*asked, "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)
    assert numbers == json.loads((tmp_path / "theta.json").read_text())
    assert numbers["frames"] == 8
    assert 0 < numbers["theta"] < 1
    assert numbers["iou"] >= 0.05
    assert (tmp_path / "theta.png").read_bytes().startswith(b"\x89PNG")
    assert run(*asked).output.startswith(f"theta {numbers['theta']:.4f}: ")
    hopeless = run(*asked[:-1], "1.0")
    assert hopeless.exit_code == 2
    assert "no threshold" in hopeless.stderr


def test_a_run_with_other_templates_is_another_run(data, tpf, tmp_path):
    asked = ["evaluate", *on(data), "--out", tmp_path, "--model", "tpf-tiny", "--weights", tpf, "--no-score"]
    asked += ["--workers", 1, "--sequences", "alpha"]
    first = run(*asked, "--template-theta", "0", "--template-window", "inf", "--template-interval", "2")
    assert first.exit_code == 0, first.output
    folder = tmp_path / "tpf-tiny" / "folder"
    record = json.loads((folder / "run.json").read_text())["templates"]
    assert "theta=0.0" in record
    assert "window=inf" in record
    assert "min_interval=2" in record
    again = run(*asked)
    assert again.exit_code == 2
    assert "holds results of another run (templates " in again.stderr
    before = (folder / "alpha.txt").read_bytes()
    assert run(*asked, "--template-policy", "none", "--overwrite").exit_code == 0
    assert json.loads((folder / "run.json").read_text())["templates"] == "none"
    assert (folder / "alpha.txt").read_bytes() != before  # random weights, but both templates are looked at


def test_templates_in_track(data, tpf, tmp_path):
    folder = data / "alpha"
    asked = ["track", "--rgb", folder / "visible", "--aux", folder / "infrared", "--box", "20,24,16,12"]
    done = run(*asked, "--model", "tpf-tiny", "--weights", tpf, "--out", tmp_path / "a", "--template-reuse")
    assert done.exit_code == 0, done.output
    refused = run(*asked, "--out", tmp_path / "b", "--template-policy", "interval")
    assert refused.exit_code == 2
    assert (
        refused.stderr == "duotrack: ckd-tiny takes one template: there is none to renew; leave template settings out\n"
    )
    unknown = run(*asked, "--out", tmp_path / "b", "--template-policy", "newest")
    assert unknown.exit_code == 2
    assert "no template policy is called 'newest'" in unknown.stderr
