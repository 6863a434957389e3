"""Training PATrack: only adapters move, what is frozen stays to the bit, and what a run says and leaves."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from duotrack.errors import InputError
from duotrack.models.head import CenterHead
from duotrack.models.parameters import unused_parts
from duotrack.models.patrack import AdaptedBlock, PATrack
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, build_on_meta
from duotrack.training.data import Folders, hold_out
from duotrack.training.fit import build_network, fit
from duotrack.training.methods.patrack import PATrackSettings, patrack_step
from duotrack.training.optimise import split_parameters
from duotrack.training.pairs import Source
from duotrack.training.recipe import Recipe, load_recipe
from duotrack.training.step import check
from duotrack.weights.task import stated_kind
from reference import manifest
from sequences import box, scene, write_sequence

TASKS = ("thermal", "depth", "event")
FULL = "optimiser.learning_rates={head: 4.0e-4, backbone: 4.0e-5}"
SHORT = (
    *("epochs=1", "pairs_per_epoch=4", "batch_size=2", "workers=0", "log_every=1"),
    *("validation.every_epochs=0.5", "validation.pairs=2", "model.requires=nothing"),
)


def small_net() -> PATrack:
    """patrack-base's crops, a ten-thousandth of its size; a block of either kind."""
    torch.manual_seed(0)
    block = partial(AdaptedBlock, width=8)
    return PATrack(
        backbone=partial(VisionTransformer, dim=16, depth=2, heads=2, drop_path=0.1, block=block),
        head=lambda inputs: CenterHead(inputs=inputs, channels=16),
        entangled=(1,),
        head_width=8,
    )


def recipe(task: str, *changes: str) -> Recipe:
    return load_recipe(f"patrack-{task}", [*SHORT, "data.split=null", "data.hold_out_every=null", *changes])


def state(net: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


@pytest.fixture(scope="module")
def thermal(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("lasher")
    for name in "abcd":
        write_sequence(root, name)
    return Folders((root,))


@pytest.fixture(scope="module")
def depth(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """One sequence like DepthTrack's; the target is absent from one frame."""
    folder = tmp_path_factory.mktemp("depthtrack") / "toy_indoor"
    for part in ("color", "depth"):
        (folder / part).mkdir(parents=True)
    for i in range(24):
        x, y, w, h = box(i)
        millimetres = np.full((72, 96), 4000, np.uint16)
        millimetres[y : y + h, x : x + w] = 1500
        millimetres[:8, :8] = 0
        assert cv2.imwrite(str(folder / "color" / f"{i + 1:08d}.jpg"), scene(i, "visible"))
        assert cv2.imwrite(str(folder / "depth" / f"{i + 1:08d}.png"), millimetres)
    rows = [",".join(map(str, box(i))) for i in range(24)]
    rows[5] = "nan,nan,nan,nan"
    (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
    return Folders((folder.parent,))


@pytest.mark.parametrize("checked", [False, True])
def test_an_adapter_only_run_moves_adapters_and_nothing_else(
    thermal: Folders, tmp_path: Path, checked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when a check on held-out pairs comes between two steps."""
    net = small_net()
    unused = tuple(name for name, p in net.named_parameters() if not p.requires_grad)
    before = state(net)
    fit(recipe("thermal"), thermal, tmp_path / "run", validation=thermal if checked else None, device="cpu", net=net)
    after = net.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {key for key in before if "adap" in key and key not in unused}
    assert any("running_mean" in key for key in before)
    said = " ".join(capsys.readouterr().out.split())
    trained = sum(before[key].numel() for key in moved)
    assert f"{trained:,} of {sum(p.numel() for p in net.parameters()):,}" in said
    assert "never used by the forward pass, carried for checkpoints, not trained: backbone.cls_token" in said
    assert "backbone.blocks.1.adap_t" in said


def test_batch_statistics_would_move_if_nothing_kept_them(thermal: Folders, tmp_path: Path) -> None:
    """What the test above guards against does happen without the two settings."""
    net = small_net()
    before = state(net)
    loose = recipe("thermal", "frozen_mode=train", "fix_batch_norm=false")
    fit(loose, thermal, tmp_path / "run", device="cpu", net=net)
    moved = {key for key, value in net.state_dict().items() if not torch.equal(before[key], value)}
    assert any(key.startswith("box_head") and "running_mean" in key for key in moved)
    assert not any(key.startswith("box_head") and "running" not in key and "tracked" not in key for key in moved)


def test_full_fine_tuning_moves_all_that_is_used_but_no_statistics(thermal: Folders, tmp_path: Path) -> None:
    net = small_net()
    unused = {name for name, p in net.named_parameters() if not p.requires_grad}
    before = state(net)
    fit(recipe("thermal", FULL), thermal, tmp_path / "run", device="cpu", net=net)
    moved = {key for key, value in net.state_dict().items() if not torch.equal(before[key], value)}
    assert {name for name, _ in net.named_parameters()} - moved == unused
    assert not any("running" in key or "tracked" in key for key in moved)


def test_the_groups_of_the_whole_network_are_counted_as_published() -> None:
    """docs/specs/patrack.md, sections 1.8 and 2.2."""
    net = build_on_meta(MODELS["patrack-base"])
    unused = sum(unused_parts(net).values())
    groups = split_parameters(net, load_recipe("patrack-thermal").optimiser.learning_rates, ())
    assert [(g.name, g.count, g.trains) for g in groups] == [
        ("adap", 3_722_904, True),
        ("frozen", 105_667_413 - 3_722_904 - unused, False),
        ("unused", unused, False),
    ]
    full = load_recipe("patrack-thermal", [FULL]).optimiser.learning_rates
    groups = split_parameters(build_on_meta(MODELS["patrack-base"]), full, ())
    assert [g.name for g in groups if g.count and g.trains] == ["head", "backbone"]
    assert sum(g.count for g in groups if g.trains) == 105_667_413 - unused


@pytest.mark.parametrize("task", TASKS)
def test_released_settings(task: str) -> None:
    """docs/specs/patrack.md, sections 2.1 to 2.5."""
    ours = load_recipe(f"patrack-{task}")
    assert (ours.epochs, ours.pairs_per_epoch, ours.batch_size, ours.seed) == (60, 60_000, 32, 0)
    assert (ours.optimiser.learning_rates, ours.optimiser.weight_decay, ours.optimiser.clip) == (
        {"adap": 4e-4},
        1e-4,
        0.1,
    )
    assert (ours.schedule.kind, ours.schedule.drop_epoch, ours.schedule.factor) == ("step", 48, 0.1)
    assert (ours.precision, ours.fix_batch_norm, ours.model.drop_path) == ("fp32", True, 0.1)
    assert (ours.validation.every_epochs, ours.validation.pairs) == (2, 10_000)
    assert (ours.data.sampling.mode, ours.data.sampling.max_gap, ours.data.sampling.gap_step) == ("causal", 200, 5)
    assert (ours.data.sampling.min_visible, ours.data.sampling.min_frames) == (5, 20)
    assert (ours.data.jitter.centre, ours.data.jitter.scale, ours.data.jitter.hard) == (3.0, 0.25, 0.0)
    light = ours.data.augmentation
    assert (light.grey, light.flip, light.brightness, light.crop_flip) == (0.0, 0.5, 0.2, 0.5)
    assert ours.method == PATrackSettings(giou_weight=2.0, l1_weight=5.0, focal_weight=1.0, routing="released")
    assert ours.data.kind == task
    assert ours.data.validation_split != "test"


def test_a_depth_run_says_what_it_was_trained_on(depth: Folders, tmp_path: Path) -> None:
    weights = fit(recipe("depth"), depth, tmp_path / "run", validation=depth, device="cpu", net=small_net())
    with safe_open(weights, framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["model"], metadata["task"], metadata["depth_colours"]) == ("patrack-base", "depth", "bgr")
    assert metadata["routing"] == "released"
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()
    assert stated_kind(weights) == "depth"


def test_validation_is_on_sequences_held_out_of_training(thermal: Folders, tmp_path: Path) -> None:
    held = recipe("thermal", "data.hold_out_every=2")
    out = tmp_path / "run"
    fit(held, thermal, out, device="cpu", net=small_net())
    facts = json.loads((out / "run.json").read_text())
    assert (facts["data"]["sequences"], facts["validation"]["sequences"]) == (2, 2)
    assert facts["data"]["fingerprint"] != facts["validation"]["fingerprint"]
    assert (out / "checkpoints" / "best.ckpt").exists()


def test_every_nth_sequence_is_held_out() -> None:
    source = Source("all", list("abcdefg"))  # type: ignore[arg-type]
    stills = Source("stills", list("st"), kind="stills")  # type: ignore[arg-type]
    train, held = hold_out([source, stills], 3)
    assert ["".join(s.sequences) for s in train] == ["abdeg", "st"]  # type: ignore[arg-type]
    assert ["".join(s.sequences) for s in held] == ["cf"]  # type: ignore[arg-type]
    with pytest.raises(InputError, match="all has 7 sequences, too few to hold out one of each 8"):
        hold_out([source], 8)
    with pytest.raises(InputError, match="no sequences to hold out"):
        hold_out([stills], 3)


@pytest.mark.parametrize("routing", ["released", "published"])
def test_the_loss_falls_on_a_batch_seen_again_and_again(routing: str) -> None:
    net = small_net().train()
    net.routing = routing
    draw = torch.Generator().manual_seed(0)
    batch = {
        "template": torch.randn(2, 2, 3, 128, 128, generator=draw),
        "search": torch.randn(2, 2, 3, 256, 256, generator=draw),
        "box": torch.tensor([[0.1, 0.3, 0.25, 0.2], [0.5, 0.4, 0.3, 0.3]]),
        "present": torch.tensor([[True, True], [True, False]]),
    }
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=3e-3)
    totals = []
    for _ in range(30):
        optimiser.zero_grad()
        losses = patrack_step(net, batch, PATrackSettings(routing=routing))  # type: ignore[arg-type]
        losses.total.backward()
        optimiser.step()
        totals.append(losses.total.item())
    assert sum(totals[-3:]) / 3 < 0.6 * totals[0]
    with torch.inference_mode():
        assert set(check(net.eval(), batch, PATrackSettings())) == {"task", "giou", "l1", "focal", "iou"}


def test_a_recipe_wants_a_checkpoint_and_full_grids() -> None:
    with pytest.raises(InputError, match="starts from a checkpoint"):
        build_network(load_recipe("patrack-event"))
    eliminating = load_recipe("patrack-depth", ["model.elimination=ce", "model.requires=nothing"])
    with pytest.raises(InputError, match="patrack-base knows no elimination 'ce', only none"):
        build_network(eliminating)
    with pytest.raises(InputError, match=r"method\.routing"):
        load_recipe("patrack-depth", ["method.routing=sideways"])


@pytest.mark.parametrize(("routing", "said"), [("released", 0), ("published", 1)])
def test_weights_that_were_wired_another_way_are_warned_of(
    routing: str, said: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = manifest("patrack_state_dict")
    count, weight = torch.zeros((), dtype=torch.int64), torch.zeros(())
    net = {key: (count if key.endswith("tracked") else weight).expand(shape) for key, shape in shapes.items()}
    torch.save({"net": net}, tmp_path / "PATrack.pth.tar")
    start = f"model.weights={tmp_path / 'PATrack.pth.tar'}"
    assert build_network(load_recipe("patrack-depth", [start, f"method.routing={routing}"])).routing == routing
    assert caplog.text.count("was trained with routing released, this run has published") == said
