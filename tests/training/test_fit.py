"""Learning itself: losses fall, what is frozen stays, and what a run leaves behind."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from duotrack.errors import InputError
from duotrack.models.ckd import CKD
from duotrack.training.callbacks import AtomicCheckpoints
from duotrack.training.data import Folders, read_names
from duotrack.training.fit import build_network, fit
from duotrack.training.methods.ckd import CKDSettings, ckd_step, draw_keep
from duotrack.training.optimise import make_optimiser, rest_frozen, schedule_factor, split_parameters
from duotrack.training.recipe import OptimiserSettings, ScheduleSettings, load_recipe, parse_recipe
from duotrack.training.step import check
from duotrack.training.trainer import choose_accelerator
from duotrack.weights.build import build_net
from sequences import write_sequence
from toy_training import RECIPE, small_net, small_recipe

ALONE = CKDSettings(teachers=False, from_teachers="none", mask_ratio=0)


def toy_batch(present: list[tuple[bool, bool]]) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    n = len(present)
    return {
        "template": torch.randn(n, 2, 3, 96, 96, generator=draw),
        "search": torch.randn(n, 2, 3, 192, 192, generator=draw),
        "box": torch.tensor([[0.1 + 0.15 * i, 0.3, 0.25, 0.2] for i in range(n)]),
        "present": torch.tensor(present),
    }


BATCHES = {
    "pairs": [(True, True)] * 4,
    "mixed": [(True, True), (True, False), (False, True), (True, True)],
    "singles": [(False, True), (True, False)],
}


@pytest.mark.parametrize("name", BATCHES)
def test_the_loss_falls_on_a_batch_seen_again_and_again(name: str) -> None:
    net, batch = small_net().train(), toy_batch(BATCHES[name])
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    totals = []
    for _ in range(40):
        optimiser.zero_grad()
        losses = ckd_step(net, batch, ALONE)
        losses.total.backward()
        optimiser.step()
        totals.append(losses.total.item())
    assert sum(totals[-3:]) / 3 < 0.5 * totals[0]
    if name == "singles":
        assert losses.parts["style"] == 0
    net.eval()
    with torch.inference_mode():
        assert set(check(net, batch, ALONE)) == {"task", "giou", "l1", "focal", "iou"}


@pytest.mark.parametrize("teachers", [True, False])
@pytest.mark.parametrize("elimination", ["mce", "ce", "none"])
def test_every_switch_of_the_paper_takes_a_step(elimination: str, teachers: bool) -> None:
    net = small_net(elimination=elimination, teachers=teachers, stages=(0,)).train()
    batch = toy_batch(BATCHES["pairs"][:2])
    for between in ("none", "style", "features"):
        for content in ("none", "content", "features") if teachers else ("none",):
            for extra in ({}, {"over_blocks": "mean", "deviation": "population"}, {"statistics": "channels"}):
                settings = CKDSettings(
                    teachers=teachers, between_students=between, from_teachers=content, mask_ratio=0.5, **extra
                )
                losses = ckd_step(net, batch, settings)
                assert torch.isfinite(losses.total)
                assert ("style" in losses.parts) == (between != "none")
                assert ("content" in losses.parts) == (content != "none")


def gradients(net: CKD, batch: dict[str, Tensor], settings: CKDSettings, part: str) -> set[str]:
    """Top-level modules that a weight on `part` alone reaches."""
    torch.manual_seed(0)
    heavy = settings.model_copy(update={"giou_weight": 0.0, "l1_weight": 0.0, "focal_weight": 0.0, part: 1.0})
    net.zero_grad()
    ckd_step(net, batch, heavy).total.backward()
    return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize(
    ("changes", "part", "reached"),
    [
        ({}, "content_weight", {"rgb_branch", "tir_branch"}),
        (
            {"stop_content_gradient": False},
            "content_weight",
            {"rgb_branch", "tir_branch", "teacher_rgb", "teacher_tir"},
        ),
        ({}, "style_weight", {"rgb_branch", "tir_branch"}),
        ({"stop_style_gradient": True}, "style_weight", {"tir_branch"}),
    ],
)
def test_gradient_stops(changes: dict[str, bool], part: str, reached: set[str]) -> None:
    net = small_net(teachers=True, shared=False).train()
    settings = CKDSettings(style_weight=0, content_weight=0, mask_ratio=0, **changes)
    assert gradients(net, toy_batch(BATCHES["pairs"][:2]), settings, part) == reached


@pytest.mark.parametrize(
    ("ratio", "probability", "masked"), [(0.25, 1.0, 0.25), (0.75, 1.0, 0.75), (0.5, 0.4, 0.2), (0.0, 1.0, 0.0)]
)
def test_masks_have_the_wanted_share(ratio: float, probability: float, masked: float) -> None:
    torch.manual_seed(0)
    keep = draw_keep(2000, 64, CKDSettings(mask_ratio=ratio, mask_probability=probability), torch.device("cpu"))
    assert (0.0 if keep is None else 1 - keep.float().mean().item()) == pytest.approx(masked, abs=0.02)


def test_parameters_go_to_the_first_group_that_fits_and_the_rest_is_frozen() -> None:
    net = small_net()
    groups = split_parameters(net, {"head": 1e-3, "branch.blocks": 1e-4}, ("branch.blocks.0",))
    assert [group.name for group in groups] == ["head", "branch.blocks", "frozen"]
    assert sum(group.count for group in groups) == sum(p.numel() for p in net.parameters())
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith(("box_head.", "branch.blocks.1.")) for name in trained)
    optimiser = make_optimiser(groups, OptimiserSettings(learning_rates={"head": 1e-3}))
    assert [group["lr"] for group in optimiser.param_groups] == [1e-3, 1e-4]
    assert all(group["weight_decay"] == 1e-4 for group in optimiser.param_groups)
    net.train()
    rest_frozen(net)
    assert not net.branch.stem.training
    assert not net.branch.blocks[0].training
    assert net.branch.blocks[1].training
    assert net.box_head.training


@pytest.mark.parametrize(
    ("rates", "freeze", "message"),
    [
        ({"haed": 1.0}, (), "no parameter has 'haed'"),
        ({"head": 1.0}, ("stem",), "no parameter begins with 'stem'"),
        ({"head": 1.0}, ("box_head",), "every parameter is frozen"),
    ],
)
def test_groups_that_fit_nothing_are_errors(rates: dict[str, float], freeze: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_parameters(small_net(), rates, freeze)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "constant"}, {0: 1, 99: 1}),
        ({"kind": "constant", "warmup_steps": 4}, {0: 0.2, 3: 0.8, 4: 1, 99: 1}),
        ({"kind": "step", "drop_epoch": 5, "factor": 0.1}, {49: 1, 50: 0.1, 99: 0.1}),
        ({"kind": "cosine", "factor": 0.2}, {0: 1, 50: 0.6, 100: 0.2}),
    ],
)
def test_schedules(settings: dict[str, object], expected: dict[int, float]) -> None:
    factor = schedule_factor(ScheduleSettings.model_validate(settings), steps=100, steps_per_epoch=10)
    assert {step: factor(step) for step in expected} == pytest.approx(expected)


def test_a_run_leaves_everything_needed_to_repeat_it(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    write_sequence(data, "pair")
    net = small_net()
    frozen = {key: value.clone() for key, value in net.state_dict().items() if key.startswith("branch.stem")}
    recipe = small_recipe(
        freeze=["branch.stem"], precision="bf16", optimiser={**RECIPE["optimiser"], "accumulate": 2}, pairs_per_epoch=8
    )
    weights = fit(recipe, Folders((data,)), out, validation=Folders((data,)), device="cpu", net=net)

    assert parse_recipe(yaml.safe_load((out / "recipe.yaml").read_text()), source="run") == recipe
    facts = json.loads((out / "run.json").read_text())
    assert {"command", "commit", "python", "torch", "duotrack", "seed", "data", "validation"} <= facts.keys()
    assert facts["data"]["sequences"] == 1
    assert len(facts["data"]["fingerprint"]) == 64
    steps = [line.split(",")[0] for line in (out / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == ["1", "1", "2", "2"]  # two batches a step: an epoch of two batches is one step, then a check
    assert list((out / "tensorboard").iterdir())
    for name in ("last", "best"):
        torch.load(out / "checkpoints" / f"{name}.ckpt", weights_only=True)
    with safe_open(weights, "pt") as file:
        assert file.metadata()["model"] == "ckd-tiny"
        assert set(file.keys()) == set(net.state_dict())
    assert all(torch.equal(net.state_dict()[key], value) for key, value in frozen.items())
    assert sorted(path.name for path in out.rglob(".*")) == []  # no temporary file is left


def test_accumulated_batches_give_the_mean_gradient(tmp_path: Path) -> None:
    """Two equal batches accumulated are one batch: the loss is scaled, and clipping sees the whole step."""
    data = tmp_path / "data"
    write_sequence(data, "pair", frames=20)
    results = []
    for accumulate in (1, 2):
        net = small_net()
        for block in net.branch.blocks:
            block.drop_path = 0.0
        plain = {"grey": 0, "flip": 0, "brightness": 0, "crop_flip": 0}
        same_pair = {
            "sampling": {"min_visible": 2, "min_frames": 2},
            "jitter": {"centre": 0, "scale": 0},
            "augmentation": plain,
        }
        boxes = "".join(f"{20 + i},24,16,12\n" if i < 2 else "0,0,0,0\n" for i in range(20))
        (data / "pair" / "init.txt").write_text(boxes)
        recipe = small_recipe(
            method={**RECIPE["method"], "mask_ratio": 0},
            data=same_pair,
            optimiser={**RECIPE["optimiser"], "accumulate": accumulate, "clip": 0.01},
            epochs=1,
            pairs_per_epoch=4 * accumulate,
        )
        fit(recipe, Folders((data,)), tmp_path / f"run{accumulate}", net=net)
        results.append([p.detach().clone() for p in net.parameters()])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("device", "devices", "precision", "message"),
    [
        ("cpu", 1, "fp16", "fp16 needs CUDA"),
        ("cuda", 64, "fp32", "64 CUDA devices"),
        ("cpu", 0, "fp32", "at least one"),
    ],
)
def test_devices_that_cannot(device: str, devices: int, precision: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_accelerator(device, devices, precision)  # type: ignore[arg-type]


def test_a_recipe_that_needs_weights_says_how_to_give_them() -> None:
    recipe = load_recipe("ckd-tiny", ["model.requires=weights", "model.weights=null"])
    with pytest.raises(InputError, match=r"--set model\.weights=FILE"):
        build_network(recipe)


def test_a_frozen_part_without_weights_is_said(caplog: pytest.LogCaptureFixture) -> None:
    build_network(load_recipe("ckd-tiny", ["model.weights=null"]))
    assert [m for m in caplog.messages if "branch.stem" in m and "--set model.weights=FILE" in m]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_one_line_wherever_it_is_read(tmp_path: Path, workers: int) -> None:
    write_sequence(tmp_path / "data", "a")
    for path in (tmp_path / "data" / "a" / "infrared").iterdir():
        cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(InputError, match=r"^a, frame \d+: the modalities are [^\n]* one size$"):
        fit(small_recipe(workers=workers), Folders((tmp_path / "data",)), tmp_path / "run", net=small_net())


def test_a_full_disk_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError):  # there is room: some other fault, which is not to be hidden
        AtomicCheckpoints().save_checkpoint({}, tmp_path / "last.ckpt")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpoints().save_checkpoint({}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_the_run_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    write_sequence(tmp_path / "data", "a")
    with pytest.raises(InputError, match="run is a file"):
        fit(small_recipe(), Folders((tmp_path / "data",)), tmp_path / "run", net=small_net())


def test_initial_values_follow_the_seed() -> None:
    one, same, other = (
        build_network(load_recipe("ckd-tiny", [f"seed={seed}", "model.weights=null"])).state_dict()
        for seed in (1, 1, 2)
    )
    key = "branch.blocks.0.attn.qkv.weight"
    assert torch.equal(one[key], same[key])
    assert not torch.equal(one[key], other[key])


def test_names_come_from_the_section_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "split.txt"
    path.write_text("# a remark\n[train]\na\nb  # too\n\n[val]\nc\n")
    assert read_names(path, "train") == ("a", "b")
    assert read_names(path, "val") == ("c",)
    with pytest.raises(InputError, match="did you mean 'train'"):
        read_names(path, "trian")
    with pytest.raises(InputError, match="names before its first section"):
        read_names(path)


def test_the_published_split_on_other_data_says_what_to_do(tmp_path: Path) -> None:
    write_sequence(tmp_path, "mine")
    with pytest.raises(InputError, match=r"data\.split=null"):
        fit(small_recipe(data={"split": "train"}), Folders((tmp_path,)), tmp_path / "run", net=small_net())
    assert not (tmp_path / "run").exists()


def test_training_goes_on_from_the_packaged_weights() -> None:
    ours = build_network(load_recipe("ckd-tiny")).state_dict()
    shipped = build_net("ckd-tiny").state_dict()
    assert all(torch.equal(ours[key], value) for key, value in shipped.items())
    with pytest.raises(InputError, match="the package holds no weights of ckd-base"):
        build_network(load_recipe("ckd-base-stage2", ["model.weights=packaged"]))
