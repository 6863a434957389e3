"""IPL's losses: what each stage trains, what is released and what is published."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from duotrack.boxes import cxcywh_to_xyxy
from duotrack.errors import InputError
from duotrack.models.head import CenterHead, FrozenNorm
from duotrack.models.hiera import HieraBranch
from duotrack.models.ipl import IPL
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, build_on_meta
from duotrack.training.data import Folders
from duotrack.training.fit import build_network, fit
from duotrack.training.losses import task_loss
from duotrack.training.methods.ipl import IPLSettings, divergence, ipl_check, ipl_step, keep_ratio, reconstruction
from duotrack.training.methods.table import method_of
from duotrack.training.optimise import make_optimiser, schedule_factor, split_parameters
from duotrack.training.recipe import load_recipe
from duotrack.weights.build import build_net
from sequences import write_sequence
from toy_training import small_recipe

MIXED = [(True, True), (True, False), (False, True), (True, True)]
BOTH = [(True, True)] * 2


VIT = partial(VisionTransformer, template_size=96, search_size=192, dim=16, depth=3, heads=2, drop_path=0.0)


def small_ipl(**options: Any) -> IPL:
    """ipl-tiny's crops, a thousandth of its size; no stochastic depth."""
    torch.manual_seed(0)
    norm = partial(FrozenNorm, frozen=options.pop("frozen_norm", True))
    return IPL(
        branch=options.pop("branch", VIT),
        head=lambda inputs: CenterHead(inputs=inputs, channels=16, squeeze=16, norm=norm),
        **{"stages": (0, 1), **options},
    )


def toy_batch(present: list[tuple[bool, bool]]) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    n = len(present)
    return {
        "template": torch.randn(n, 2, 3, 96, 96, generator=draw),
        "search": torch.randn(n, 2, 3, 192, 192, generator=draw),
        "box": torch.tensor([[0.1 + 0.15 * i, 0.3, 0.25, 0.2] for i in range(n)]),
        "present": torch.tensor(present),
    }


def pair_of(batch: dict[str, Tensor], key: str) -> tuple[Tensor, Tensor]:
    return batch[key][:, 0], batch[key][:, 1]


def freeze_all_but_prompters(net: IPL) -> IPL:
    rates = load_recipe("ipl-base-stage2").optimiser.learning_rates
    split_parameters(net, rates, ())
    return net.train()


@pytest.mark.parametrize(
    ("epoch", "ratio"),
    [(0, 1.0), (2.99, 1.0), (7, 0.956), (7.9, 0.956), (11, 0.85), (15, 0.744), (19, 0.7), (59.5, 0.7)],
)
def test_tokens_kept_by_epoch(epoch: float, ratio: float) -> None:
    """docs/specs/ipl.md, section 5.2; its epochs count from 1, ours from 0."""
    assert keep_ratio(epoch, IPLSettings(), 0.7) == pytest.approx(ratio, abs=5e-4)


def test_tokens_may_be_dropped_from_the_first_epoch_on() -> None:
    assert keep_ratio(0, IPLSettings(keep_all_before=1, keep_least_from=1), 0.7) == 0.7
    with pytest.raises(ValueError, match="keep_least_from 2 is before keep_all_before 4"):
        IPLSettings(keep_least_from=2)


@pytest.mark.parametrize("losses", ["released", "published"])
def test_the_total_is_what_the_specification_says(losses: str) -> None:
    """Section 5.3, term by term from the network's outputs."""
    net, batch = freeze_all_but_prompters(small_ipl()), toy_batch(BOTH)
    step = ipl_step(net, batch, IPLSettings(losses=losses), epoch=30)
    states = net.states(template=pair_of(batch, "template"), search=pair_of(batch, "search"))
    task = {name: task_loss(getattr(states, name), batch["box"]) for name in ("complete", "no_aux", "no_rgb")}
    teacher = cxcywh_to_xyxy(task["complete"].boxes).softmax(1)
    total = task["no_aux"].total + task["no_rgb"].total
    for name in ("no_aux", "no_rgb"):
        student = cxcywh_to_xyxy(task[name].boxes).log_softmax(1)
        total = total + (teacher * (teacher.log() - student)).sum() / 2
        if losses == "published":
            student = getattr(states, name).score_map.reshape(2, -1).log_softmax(1)
            wanted = states.complete.score_map.reshape(2, -1).softmax(1)
            total = total + (wanted * (wanted.log() - student)).sum() / 2
    seen, rebuilt = states.features, states.rebuilt
    m = {
        stream: sum(F.mse_loss(a, b) for a, b in zip(seen[stream], seen[like], strict=True))
        + sum(F.mse_loss(a, b) for a, b in zip(rebuilt[stream], seen[source], strict=True))
        for stream, like, source in (("rgb2tir", "tir", "rgb"), ("tir2rgb", "rgb", "tir"))
    }
    total = total + (m["rgb2tir"] if losses == "released" else 0.5 * m["rgb2tir"] + 0.5 * m["tir2rgb"])
    torch.testing.assert_close(step.total, total)
    torch.testing.assert_close(step.parts["features_rgb2tir"], torch.as_tensor(m["rgb2tir"]))
    torch.testing.assert_close(step.parts["features_tir2rgb"], torch.as_tensor(m["tir2rgb"]))
    assert step.parts["iou"] == pytest.approx(float((task["no_aux"].iou.mean() + task["no_rgb"].iou.mean()) / 2))


def test_the_released_alignment_of_score_maps_is_zero() -> None:
    """Why it is left out: over a single channel every softmax is 1."""
    one, other = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    assert float(divergence(one, other)) == 0
    assert float(divergence(one.flatten(1), other.flatten(1))) > 0


def gradients(net: IPL, loss: Tensor) -> dict[str, float]:
    net.zero_grad(set_to_none=True)
    loss.backward()
    return {name: norm for name, p in net.named_parameters() if p.grad is not None and (norm := float(p.grad.norm()))}


@pytest.mark.parametrize("stream", ["rgb2tir", "tir2rgb"])
def test_features_teach_one_direction_and_nothing_else(stream: str) -> None:
    net, batch = small_ipl().train(), toy_batch(BOTH)
    states = net.states(template=pair_of(batch, "template"), search=pair_of(batch, "search"))
    reached = gradients(net, reconstruction(states, stream))
    other = "tir2rgb" if stream == "rgb2tir" else "rgb2tir"
    assert any(f"align_adapter_{stream}" in name for name in reached)
    assert not any(other in name for name in reached)
    assert "backbone.patch_embed.proj.weight" not in reached  # ordinary streams are targets


def test_released_losses_teach_tir_to_rgb_by_the_task_alone() -> None:
    net, batch = freeze_all_but_prompters(small_ipl()), toy_batch(BOTH)
    weights = {"giou_weight": 0, "l1_weight": 0, "focal_weight": 0, "alignment_weight": 0}
    released = gradients(net, ipl_step(net, batch, IPLSettings(**weights)).total)
    assert not any("tir2rgb" in name for name in released)
    assert any("rgb2tir" in name for name in released)
    published = gradients(net, ipl_step(net, batch, IPLSettings(losses="published", **weights)).total)
    assert any("tir2rgb" in name for name in published)
    whole = gradients(net, ipl_step(net, batch, IPLSettings()).total)
    assert any("tir2rgb" in name for name in whole)


@pytest.mark.parametrize(
    ("recipe", "frozen_norm"), [("ipl-base-stage1", False), ("ipl-base-stage2", True), ("ipl-tiny", True)]
)
def test_every_trained_parameter_takes_part_in_every_step(recipe: str, frozen_norm: bool) -> None:
    loaded = load_recipe(recipe)
    assert loaded.method.frozen_norm == frozen_norm
    branch = partial(HieraBranch, dim=8, depth=3) if "tiny" in recipe else VIT
    net, rates = small_ipl(frozen_norm=frozen_norm, branch=branch), loaded.optimiser.learning_rates
    split_parameters(net, rates, loaded.freeze)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    before = {key: value.clone() for key, value in net.state_dict().items() if "running" in key}
    losses = ipl_step(net.train(), toy_batch(BOTH), loaded.method)
    assert set(gradients(net, losses.total)) == trained
    moved = any(not torch.equal(net.state_dict()[key], value) for key, value in before.items())
    assert moved != frozen_norm
    if loaded.method.stage == "complete":
        assert not any("align_adapter" in name or "patch_embed_" in name for name in trained)
    if loaded.method.stage == "prompters":
        assert all("align_adapter" in name or "patch_embed_" in name for name in trained)


@pytest.mark.parametrize("stage", ["complete", "prompters", "both"])
@pytest.mark.parametrize("present", [BOTH, MIXED, [(True, False), (False, True)]])
def test_a_step_whatever_the_samples_lack(stage: str, present: list[tuple[bool, bool]]) -> None:
    settings = IPLSettings(stage=stage)
    net, batch = small_ipl(elimination="ce").train(), toy_batch(present)
    losses = ipl_step(net, batch, settings, epoch=30)
    assert torch.isfinite(losses.total)
    whole = ipl_step(net, toy_batch(BOTH), settings).parts
    assert list(losses.parts) == list(whole)  # one header serves the whole log
    with torch.inference_mode():
        checked = ipl_check(net.eval(), batch, settings)
    assert {"task", "iou"} <= set(checked) <= set(losses.parts)
    reached = gradients(net, ipl_step(net.train(), batch, settings).total)
    both = any(all(row) for row in present)
    assert ("backbone.patch_embed_tir2rgb.proj.weight" in reached) == (
        stage != "complete" or not all(map(all, present))
    )
    if stage != "complete":
        assert (losses.parts["complete"] > 0) == both


def test_samples_count_the_same_whatever_batch_they_are_in() -> None:
    net, settings = small_ipl().train(), IPLSettings()
    batch = toy_batch([(True, True), (True, False)])
    mixed = ipl_step(net, batch, settings).total
    alone = [ipl_step(net, {k: v[i : i + 1] for k, v in batch.items()}, settings).total for i in range(2)]
    torch.testing.assert_close(mixed, (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("stage", ["complete", "prompters", "both"])
def test_the_loss_falls_on_a_batch_seen_again_and_again(stage: str) -> None:
    settings = IPLSettings(stage=stage, losses="published", reconstruction_weight=0.1, frozen_norm=False)
    net, batch = small_ipl(frozen_norm=False).train(), toy_batch(MIXED)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    totals = []
    for _ in range(30):
        optimiser.zero_grad()
        total = ipl_step(net, batch, settings).total
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert sum(totals[-3:]) / 3 < 0.7 * totals[0]


def test_released_settings() -> None:
    """docs/specs/ipl.md, section 5.2."""
    two = load_recipe("ipl-base-stage2")
    assert two.optimiser.learning_rates == {"align_adapter": 1e-6, "patch_embed_": 1e-6}
    assert (two.optimiser.weight_decay, two.optimiser.clip, two.optimiser.accumulate) == (1e-4, 0.1, 1)
    assert (two.epochs, two.pairs_per_epoch, two.batch_size, two.precision) == (60, 60_000, 18, "fp32")
    assert (two.validation.every_epochs, two.validation.pairs, two.frozen_mode) == (5, 6000, "train")
    assert (two.method.stage, two.method.losses, two.model.elimination) == ("prompters", "released", "ce")
    factor = schedule_factor(two.schedule, steps=600, steps_per_epoch=10)
    assert [factor(step) for step in (0, 479, 480, 599)] == [1, 1, 0.1, 0.1]
    for name in ("ipl-base-stage1", "ipl-base-stage2"):
        assert load_recipe(name).data.augmentation.drop_modality == 0
    net = build_on_meta(MODELS["ipl-base"])
    groups = split_parameters(net, two.optimiser.learning_rates, two.freeze)
    trained = [group for group in groups if group.name in two.optimiser.learning_rates]
    assert sum(group.count for group in trained) == pytest.approx(36.66e6, abs=0.01e6)
    assert {group["lr"] for group in make_optimiser(groups, two.optimiser).param_groups} == {1e-6}


def test_the_switch_between_released_and_published_names_the_differences() -> None:
    said = IPLSettings.model_fields["losses"].description or ""
    assert all(words in said for words in ("RGB -> TIR counts twice", "TIR -> RGB not at all", "single channel"))


def test_the_small_recipe_begins_from_the_packaged_ckd_tiny() -> None:
    net = build_network(load_recipe("ipl-tiny"))
    theirs = build_net("ckd-tiny").state_dict()["branch.blocks.0.attn.qkv.weight"]
    assert torch.equal(net.state_dict()["backbone.blocks.0.attn.qkv.weight"], theirs)
    assert isinstance(net, IPL)
    assert not any("conv1_ctr.1.weight" in name for name, _ in net.named_parameters())  # its norms rest
    with pytest.raises(InputError, match="the package holds no weights of ipl-tiny"):
        build_network(load_recipe("ipl-tiny", ["model.weights=packaged"]))
    with pytest.raises(InputError, match="knows no elimination 'mce'"):
        build_network(load_recipe("ipl-tiny", ["model.elimination=mce", "model.weights=null"]))


def test_a_run_from_a_folder_to_weights(tmp_path: Path) -> None:
    """Both stages in one, some pairs losing a modality; the result says its model and is read back."""
    data, out = tmp_path / "data", tmp_path / "run"
    write_sequence(data, "pair")
    write_sequence(data, "single", modalities=("visible",))
    recipe = small_recipe(
        model={"name": "ipl-tiny", "drop_path": 0.0},
        method={"stage": "both", "losses": "published", "frozen_norm": False},
        data={"augmentation": {"drop_modality": 0.5}},
        optimiser={"learning_rates": {"head": 1e-3, "backbone": 2e-4}},
    )
    net = small_ipl(frozen_norm=False)
    weights = fit(recipe, Folders((data,)), out, validation=Folders((data,)), device="cpu", net=net)
    with safe_open(weights, "pt") as file:
        assert file.metadata()["model"] == "ipl-tiny"
        assert set(file.keys()) == set(net.state_dict())
    rows = (out / "metrics.csv").read_text().splitlines()
    assert {"features_tir2rgb", "alignment", "no_rgb_iou"} <= set(rows[0].split(","))
    assert method_of("ipl-tiny").settings is IPLSettings
