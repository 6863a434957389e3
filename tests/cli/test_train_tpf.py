"""Both stages of TPF through the command line: from ckd-tiny to a tracker, on real files."""

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.fusion.cache import make_cache
from duotrack.weights.build import build_net
from sequences import scene, write_sequence

QUICK = [
    "--set", "epochs=1", "--set", "pairs_per_epoch=4", "--set", "batch_size=2", "--set", "workers=0",
    "--set", "log_every=1", "--set", "checkpoint_every=1", "--set", "validation.pairs=1", "--set", "precision=fp32",
    "--set", "method.pfa.stride=16", "--set", "method.pfa.width=4", "--set", "method.pfa.d_state=2",
]  # fmt: skip


def train(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *arguments, "--device", "cpu"])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_sequence(root, "a")
    return root


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The run folder of a stage 1 with two experts, one of them from a cache, a prior, and cached weights."""
    room = tmp_path_factory.mktemp("first")
    cache = make_cache(room / "slow", "slow", "1")
    for frame in range(24):
        cache.write("lasher", "a", frame, scene(frame, "infrared"))
    code, output = train(*stage_one(data, cache.folder), "--out", str(room / "run"))
    assert code == 0, output
    return room / "run"


def stage_one(data: Path, cache: Path) -> list[str]:
    return [
        "tpf-tiny-stage1", "--data", str(data), "--val", str(data), *QUICK,
        "--set", f"method.mad.experts=[laplacian, 'cache:{cache}']", "--set", "method.mad.prior=0.9",
        "--set", "method.mad.weights=cached", "--set", "data.sampling.centred=true",
    ]  # fmt: skip


def rows(out: Path, split: str) -> list[dict[str, str]]:
    with (out / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def test_stage_one_moves_the_adapter_and_nothing_else(first: Path) -> None:
    steps = rows(first, "train")
    assert len(steps) == 2
    assert all(float(row["w_laplacian"]) + float(row["w_slow"]) == pytest.approx(1, abs=1e-5) for row in steps)
    assert len(rows(first, "val")) == 1
    with safe_open(first / "weights.safetensors", "pt") as file:
        assert not any(key.startswith(("gate.", "memory.")) for key in file.keys())  # noqa: SIM118
        assert '"stride":16' in file.metadata()["options"]
    ours = build_net("tpf-tiny", weights=first / "weights.safetensors")
    ckd = build_net("ckd-tiny")
    for key, value in ckd.branch.state_dict().items():
        assert torch.equal(ours.backbone.state_dict()[key], value), key
    assert ours.fusion.head.weight.detach().abs().sum() > 0
    saved = torch.load(first / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved["memory.prior"].sum() == pytest.approx(1, abs=1e-5)
    assert saved["memory.prior"].tolist() != [0.5, 0.5]


def test_a_finished_stage_one_resumes_to_the_same_weights(first: Path, data: Path) -> None:
    recipe = first / "recipe.yaml"
    before = load_file(first / "weights.safetensors")
    code, output = train(str(recipe), "--data", str(data), "--val", str(data), "--out", str(first), "--resume")
    assert code == 0, output
    after = load_file(first / "weights.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_killed_stage_one_ends_with_the_same_weights(
    first: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from duotrack.training.methods import tpf

    out, real, calls = tmp_path / "run", tpf.mad_step, iter(range(10))

    def killed(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise RuntimeError("the lights went out")
        return real(*arguments)

    arguments = [*stage_one(data, first.parent / "slow"), "--out", str(out)]
    with monkeypatch.context() as patched:
        patched.setattr(tpf, "mad_step", killed)
        assert train(*arguments)[0] == 1
    assert not (out / "weights.safetensors").exists()
    code, output = train(*arguments, "--resume")
    assert code == 0, output
    whole, resumed = (load_file(folder / "weights.safetensors") for folder in (first, out))
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    priors = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]["memory.prior"]
        for folder in (first, out)
    ]
    assert torch.equal(*priors)


def test_stage_two_goes_on_from_stage_one_and_everything_learns(
    first: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    start = ["--set", f"model.weights={first / 'weights.safetensors'}"]
    with caplog.at_level(logging.WARNING):
        code, output = train("tpf-tiny-stage2", "--data", str(data), "--out", str(out), *QUICK, *start)
    assert code == 0, output
    assert not [message for message in caplog.messages if "random" in message]
    assert {"irr", "dec", "gate", "task", "iou"} <= rows(out, "train")[0].keys()
    learnt = build_net("tpf-tiny", weights=out / "weights.safetensors")
    begun = build_net("tpf-tiny", weights=first / "weights.safetensors")
    assert learnt.gate is not None
    assert begun.gate is None
    moved = {
        key.split(".")[0]
        for key, value in begun.state_dict().items()
        if not torch.equal(value, learnt.state_dict()[key])
    }
    assert moved == {"fusion", "template_slots", "backbone", "box_head"}
    stem = {k: v for k, v in begun.state_dict().items() if k.startswith("backbone.stem.")}
    assert all(torch.equal(value, learnt.state_dict()[key]) for key, value in stem.items())
    assert yaml.safe_load((out / "recipe.yaml").read_text())["method"]["drf"]["bottleneck"] == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["method.pfa.halve=false"], "trained with pfa.halve True, the recipe has False"),
        (["model.weights=null"], "--set model.weights=FILE"),
        (["model.weights=ckd-tiny"], "continues a trained tpf-tiny"),
        (["method.drf.level=head"], "method.drf.level"),
        (["method.mad.expert=[max]"], "did you mean 'experts'"),
        (["method.mad.experts=[lapalcian]", "method.drf.kd=0.1"], "did you mean 'laplacian'"),
        (["method.mad.experts=[max, max]", "method.drf.kd=0.1"], "named twice"),
        (["method.pfa.backend=mamba_ssm"], "mamba_ssm, which is not installed"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    changes: list[str], message: str, first: Path, data: Path, tmp_path: Path
) -> None:
    sets = [word for change in changes for word in ("--set", change)]
    weights = ["--set", f"model.weights={first / 'weights.safetensors'}"]
    code, output = train("tpf-tiny-stage2", "--data", str(data), "--out", str(tmp_path / "r"), *QUICK, *weights, *sets)
    assert code == 2
    assert message in output
    assert output.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_what_stage_one_needs_is_said(data: Path, tmp_path: Path) -> None:
    for i, (change, message) in enumerate(
        {
            "method.mad.weights=cached": "--set data.sampling.centred=true",
            "optimiser.learning_rates={fusion: 1e-3, box_head: 1e-3}": "stage mad trains the adapter alone",
        }.items()
    ):
        code, output = train(
            "tpf-tiny-stage1", "--data", str(data), "--out", str(tmp_path / str(i)), *QUICK, "--set", change
        )
        assert code == 2, output
        assert message in output
