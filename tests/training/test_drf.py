"""TPF's second stage: the split, what learns from which loss; whole steps of both stages; weight decay."""

from typing import Any

import pytest
import torch
from torch import Tensor

from duotrack.errors import InputError
from duotrack.models.tpf import Split
from duotrack.training.frozen import resting, without_learning
from duotrack.training.methods.drf import decoupling, irrelevance
from duotrack.training.methods.table import method_of
from duotrack.training.methods.tpf import tpf_memory, tpf_options, tpf_step
from duotrack.training.methods.tpf_settings import TPFSettings
from duotrack.training.optimise import make_optimiser, split_parameters
from duotrack.training.recipe import OptimiserSettings, load_recipe
from duotrack.training.targets import heatmaps
from toy_tpf import batch, gradients, small_tpf


def settings(stage: str = "mad", **changes: dict[str, Any]) -> TPFSettings:
    return TPFSettings.model_validate({"stage": stage, **changes})


def step(net: Any, given: dict[str, Tensor], chosen: TPFSettings) -> Any:
    return tpf_step(net, given, chosen, memory=tpf_memory(chosen))


# stage 2


@pytest.mark.parametrize("level", ["backbone", "pfa"])
def test_stage_two_teaches_everything(level: str) -> None:
    chosen, net, given = settings("drf", drf={"level": level}), small_tpf(level=level), batch()
    losses = step(net, given, chosen)
    losses.total.backward()
    assert gradients(net) == {"fusion", "gate", "template_slots", "backbone", "box_head"}
    unused = {n for n, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert unused == set()
    assert {"task", "iou", "irr", "dec", "gate"} <= losses.parts.keys()
    expected = losses.parts["task"] + 0.1 * losses.parts["irr"] + 0.1 * losses.parts["dec"]
    assert float(losses.total.detach()) == pytest.approx(
        float(expected + 1e-3 * (losses.parts["gate"] - 0.5) ** 2), rel=1e-5
    )


@pytest.mark.parametrize("level", ["backbone", "pfa"])
def test_the_irrelevant_part_teaches_no_head(level: str) -> None:
    """Acceptance test 7: no gradient to the head; at the adapter, none to the tracker and the drawing either."""
    nothing = {"giou_weight": 0.0, "l1_weight": 0.0, "focal_weight": 0.0}
    chosen = settings("drf", drf={"level": level, "w_dec": 0, "prior": 0}, **nothing)  # type: ignore[arg-type]
    net = small_tpf(level=level)
    statistics = {k: v.clone() for k, v in net.box_head.named_buffers()}
    losses = step(net, batch(), chosen)
    after = {k: v.clone() for k, v in net.box_head.named_buffers()}
    losses.total.backward()
    reached = gradients(net)
    assert "box_head" not in reached
    assert "gate" in reached
    if level == "pfa":
        assert reached == {"fusion", "gate"}
        assert net.fusion.up.weight.grad is None or net.fusion.up.weight.grad.abs().sum() == 0
    # the head ran once in training mode, for the task, and not for the irrelevant part
    assert all(int(v - statistics[k]) == 1 for k, v in after.items() if k.endswith("num_batches_tracked"))


def test_the_irrelevant_part_is_asked_of_the_head_at_rest() -> None:
    net = small_tpf()
    tokens = torch.randn(2, 16, 64, requires_grad=True)
    score = without_learning(net.box_head, lambda head, x: head(x).score_map, tokens)
    assert net.box_head.training
    with resting(net.box_head):
        torch.testing.assert_close(score, net.box_head(tokens).score_map)
    score.sum().backward()
    assert tokens.grad is not None
    assert all(p.grad is None for p in net.box_head.parameters())


def test_irrelevance_is_about_the_targets_neighbourhood() -> None:
    box = torch.tensor([[0.25, 0.25, 0.5, 0.5]])
    target = heatmaps(box, 8)
    there, elsewhere = 0.9 * target.unsqueeze(1), 0.9 * (target == 0).float().unsqueeze(1)
    assert float(irrelevance(there, box)) > 0.5
    assert float(irrelevance(elsewhere, box)) == pytest.approx(0, abs=1e-6)
    expected = -(target * torch.log(1 - 0.9 * target)).sum() / target.sum()
    assert float(irrelevance(there, box)) == pytest.approx(float(expected), rel=1e-5)
    outside = torch.tensor([[3.0, 3.0, 0.1, 0.1]])
    assert float(irrelevance(torch.full((1, 1, 8, 8), 0.5), outside)) == 0


def test_decoupling_by_hand() -> None:
    relevant = torch.tensor([[[1.0, 0], [-1, 0]]])
    cases = {0.0: [[0.0, 2], [0, -2]], 1.0: [[3.0, 0], [-3, 0]], 0.5: [[-1.0, 1], [1, -1]]}
    for expected, irrelevant in cases.items():
        split = Split(relevant, torch.tensor([irrelevant]), relevant)
        assert float(decoupling(split)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("level", ["backbone", "pfa"])
@pytest.mark.parametrize("bias", [-200.0, 200.0])
def test_an_extreme_gate_stays_finite(bias: float, level: str) -> None:
    net, given = small_tpf(awake=False, level=level), batch()
    assert net.gate is not None
    torch.nn.init.constant_(net.gate.up.bias, bias)
    losses = step(net, given, settings("drf", drf={"level": level}))
    losses.total.backward()
    assert all(part.isfinite() for part in losses.parts.values())
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    assert float(losses.parts["gate"]) == pytest.approx(float(bias > 0), abs=1e-6)


def test_without_a_gate_only_tracking_is_learnt() -> None:
    chosen = settings("drf", drf={"bottleneck": None})
    assert tpf_options(chosen)["options"].bottleneck is None
    losses = step(small_tpf(bottleneck=None), batch(), chosen)
    assert float(losses.total.detach()) == pytest.approx(float(losses.parts["task"]))
    assert losses.parts.keys() == {"total", "task", "giou", "l1", "focal", "iou"}


def test_a_gate_that_does_not_answer_learns_from_its_own_terms() -> None:
    chosen = settings("drf", drf={"inference_gate": False})
    assert not tpf_options(chosen)["options"].gate_answers
    net, given = small_tpf(gate_answers=False), batch()
    step(net, given, chosen).total.backward()
    assert "gate" in gradients(net)
    no_terms = settings("drf", drf={"inference_gate": False, "w_irr": 0, "w_dec": 0, "prior": 0})
    net.zero_grad()
    step(net, given, no_terms).total.backward()
    assert "gate" not in gradients(net)


def test_experts_against_forgetting() -> None:
    given = batch()
    plain, kept = settings("drf"), settings("drf", drf={"kd": 0.5})
    assert tpf_memory(plain) is None
    net = small_tpf()
    losses = step(net, given, kept)
    without = step(small_tpf(), given, plain)
    assert float((losses.total - without.total).detach()) == pytest.approx(0.5 * float(losses.parts["mad"]), rel=1e-3)
    assert "w_guided" in losses.parts


# one whole step of each, and the optimiser


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("stage", ["mad", "drf"])
def test_a_whole_training_step(stage: str, half: bool) -> None:
    """Acceptance test 10, on the CPU, in fp32 and bf16: losses, gradients, clipping, AdamW."""
    recipe = load_recipe(f"tpf-base-stage{1 if stage == 'mad' else 2}")
    net = small_tpf(bottleneck=None if stage == "mad" else 16)
    groups = split_parameters(net, recipe.optimiser.learning_rates, recipe.freeze)
    optimiser = make_optimiser(groups, recipe.optimiser)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        losses = tpf_step(net, batch(), recipe.method, memory=method_of("tpf-base").memory(recipe.method))
    assert losses.total.dtype == torch.float32
    assert losses.total.isfinite()
    losses.total.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.optimiser.clip)
    optimiser.step()
    moved = {name.split(".")[0] for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == ({"fusion"} if stage == "mad" else {"fusion", "gate", "template_slots", "backbone", "box_head"})


def test_weight_decay_spares_what_it_should() -> None:
    net = small_tpf()
    groups = split_parameters(net, {"fusion": 1e-3, "gate": 1e-4, "box_head": 1e-4, "backbone": 1e-5}, ())
    rates = {"learning_rates": {"fusion": 1e-3}}
    optimiser = make_optimiser(groups, OptimiserSettings.model_validate({**rates, "decayed": "matrices"}))
    spared = {id(p) for g in optimiser.param_groups if g["weight_decay"] == 0 for p in g["params"]}
    decayed = {id(p) for g in optimiser.param_groups if g["weight_decay"] > 0 for p in g["params"]}
    names = {n: id(p) for n, p in net.named_parameters() if p.requires_grad}
    assert spared | decayed == set(names.values())
    assert not spared & decayed
    for name, key in names.items():
        batch_norm = name.startswith("box_head.") and ".1." in name
        spare = name.endswith((".bias", ".A_log", ".D")) or "norm" in name or batch_norm
        assert (key in spared) == spare, name
    by_rate = {g["lr"] for g in optimiser.param_groups}
    assert by_rate == {1e-3, 1e-4, 1e-5}
    plain = make_optimiser(groups, OptimiserSettings.model_validate(rates))
    assert len(plain.param_groups) == 4
    assert all(g["weight_decay"] > 0 for g in plain.param_groups)


def test_the_kernel_is_asked_for_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from duotrack.training.methods import tpf

    chosen = settings("drf", pfa={"backend": "mamba_ssm", "chunk": 8, "recompute": False})
    monkeypatch.setattr(tpf, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"mamba_ssm, which is not installed; --set method\.pfa\.backend=chunk"):
        tpf_options(chosen)
    monkeypatch.setattr(tpf, "find_spec", lambda _: object())
    made = tpf_options(chosen)
    assert {key: made[key] for key in ("backend", "chunk", "recompute")} == {
        "backend": "mamba_ssm", "chunk": 8, "recompute": False,
    }  # fmt: skip
    assert tpf_options(settings())["chunk"] is None


@pytest.mark.parametrize("chunk", [0, -1, 65537, "automatic"])
def test_a_chunk_that_no_scan_could_have_is_refused_by_the_recipe(chunk):
    with pytest.raises(ValueError, match="chunk"):
        settings("drf", pfa={"chunk": chunk})
