"""TPF's first stage: weights over experts, the judge, what learns from whom, what a wrong recipe is told."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from duotrack.errors import InputError
from duotrack.fusion.cache import FrameCache, make_cache
from duotrack.fusion.choose import ExpertSource
from duotrack.models.statistics import denormalise, normalise
from duotrack.training.image_losses import image_distance
from duotrack.training.losses import sample_losses, task_loss
from duotrack.training.methods.mad import (
    VIEWS,
    Memory,
    distillation,
    expert_images,
    expert_weights,
    fuse_views,
    judge,
    named_experts,
)
from duotrack.training.methods.table import METHODS
from duotrack.training.methods.tpf import tpf_check, tpf_memory, tpf_step
from duotrack.training.methods.tpf_settings import TPFSettings
from toy_tpf import batch, for_stage_one, gradients, small_tpf


def settings(stage: str = "mad", **changes: dict[str, Any]) -> TPFSettings:
    return TPFSettings.model_validate({"stage": stage, **changes})


def step(net: Any, given: dict[str, Tensor], chosen: TPFSettings) -> Any:
    return tpf_step(net, given, chosen, memory=tpf_memory(chosen))


# weights over experts


@given(
    losses=st.lists(st.lists(st.floats(0, 1e4), min_size=3, max_size=3), min_size=1, max_size=4),
    tau=st.floats(1e-3, 1e3),
)
def test_weights_are_a_distribution_in_the_order_of_the_losses(losses: list[list[float]], tau: float) -> None:
    weights = expert_weights(torch.tensor(losses), tau)
    assert torch.allclose(weights.sum(dim=1), torch.ones(len(losses)), atol=1e-6)
    for row, made in zip(losses, weights.tolist(), strict=True):
        for i in range(3):
            for j in range(3):
                assert row[i] >= row[j] or made[i] >= made[j]


@pytest.mark.parametrize(
    ("losses", "tau", "expected"),
    [
        ([1.0, 2.0, 3.0], 1.0, [0.665, 0.245, 0.090]),
        ([1.0, 2.0, 3.0], 1e-6, [1, 0, 0]),
        ([1.0, 2.0, 3.0], math.inf, [1 / 3] * 3),
        ([1e30, 1e30, 2e30], 1.0, [0.5, 0.5, 0]),
        ([math.nan, 2.0, 2.0], 1.0, [0, 0.5, 0.5]),
        ([math.inf, math.nan, 7.0], math.inf, [0, 0, 1]),
        ([math.nan, math.inf, -math.inf], 1.0, [1 / 3] * 3),
    ],
)
def test_limits_and_guards_of_the_weights(losses: list[float], tau: float, expected: list[float]) -> None:
    assert expert_weights(torch.tensor([losses]), tau)[0].tolist() == pytest.approx(expected, abs=1e-3)


def test_a_prior_multiplies() -> None:
    made = expert_weights(torch.tensor([[1.0, 1.0], [0.0, 9.0]]), 1.0, torch.tensor([0.8, 0.2]))
    assert made[0].tolist() == pytest.approx([0.8, 0.2])
    assert torch.allclose(made.sum(1), torch.ones(2))


# the judge


def test_per_sample_losses_are_the_batch_loss_of_one() -> None:
    net, given = small_tpf().eval(), batch()
    out = net(**{name: tuple(given[name].unbind(1)) for name in ("template", "search", "dynamic")})
    alone = sample_losses(out, given["box"])
    for i in range(3):
        one = type(out)(out.score_map[i : i + 1], out.size_map[i : i + 1], out.offset_map[i : i + 1])
        expected = task_loss(one, given["box"][i : i + 1]).total
        torch.testing.assert_close(alone[i], expected, atol=0, rtol=1e-5)


def test_the_judge_sees_each_expert_by_itself_and_changes_nothing() -> None:
    chosen, given = settings(), batch()
    net = small_tpf(bottleneck=None)  # in training mode: its batch norms must not move
    state = {key: value.clone() for key, value in net.state_dict().items()}
    experts = named_experts(chosen.mad)
    taught = {name: expert_images(experts, given, name) for name in ("template", "dynamic", "search")}
    losses = judge(net, taught, given["box"], chosen)
    assert losses.shape == (3, 3)
    assert not losses.requires_grad
    assert net.training
    assert net.box_head.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    net.eval()
    for k in range(3):
        with torch.no_grad():
            images = {name: normalise(image[k]) for name, image in taught.items()}
            out = net.find([images["template"], images["dynamic"]], images["search"])
        assert losses[:, k].tolist() == pytest.approx(sample_losses(out, given["box"]).tolist(), rel=1e-4)


def test_experts_get_the_images_between_zero_and_one() -> None:
    given = batch(dynamic=False)
    rgb, thermal = (denormalise(image) for image in given["search"].unbind(1))
    (average,) = expert_images(named_experts(settings(mad={"experts": ["average"]}).mad), given, "search")
    luma = (rgb * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    made = (average * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    inside = ((average > 0) & (average < 1)).all(dim=1)  # where putting the colours back clamped nothing
    assert inside.float().mean() > 0.3
    torch.testing.assert_close(made[inside], ((luma + thermal[:, 0]) / 2)[inside], atol=1e-3, rtol=0)


# stage 1


@pytest.mark.parametrize("target", ["sum", "mean_image"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_stage_one_teaches_the_adapter_only(dynamic: bool, target: str) -> None:
    chosen, given = settings(mad={"target": target}), batch(dynamic=dynamic)
    net = for_stage_one(small_tpf(bottleneck=None))
    state = {key: value.clone() for key, value in net.state_dict().items()}
    losses = step(net, given, chosen)
    losses.total.backward()
    assert gradients(net) == {"fusion"}
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert losses.parts.keys() == {
        "total", "task", "giou", "l1", "focal", "iou", "mad", "entropy", "w_laplacian", "w_guided", "w_gradmax",
    }  # fmt: skip
    assert sum(float(losses.parts[f"w_{name}"]) for name in chosen.mad.experts) == pytest.approx(1, abs=1e-5)
    assert 0 < float(losses.parts["entropy"]) <= math.log(3) + 1e-6
    net.eval()
    assert tpf_check(net, given, chosen).keys() == {"task", "giou", "l1", "focal", "iou"}


def test_nothing_is_left_to_learn_where_the_adapter_agrees_with_all_experts() -> None:
    """Equal images: every expert gives them back, and so does a fresh adapter."""
    net, given = for_stage_one(small_tpf(bottleneck=None, awake=False)), batch()
    grey = {name: given[name][:, 1:].expand(-1, 2, -1, -1, -1).contiguous() for name in VIEWS}
    for target in ("sum", "mean_image"):
        losses = step(net, given | grey, settings(mad={"target": target}))
        assert float(losses.parts["mad"]) == pytest.approx(0, abs=2e-4)


def test_templates_weigh_as_they_are_told() -> None:
    given = batch()
    net = for_stage_one(small_tpf(bottleneck=None))
    made = {
        weight: float(step(net, given, settings(mad={"template_weight": weight, "tau": math.inf})).parts["mad"])
        for weight in (0.0, 0.5, 1.0)
    }
    assert made[0.5] - made[0.0] == pytest.approx(made[1.0] - made[0.5], rel=1e-4)
    assert made[0.5] > made[0.0]


def test_a_tracking_loss_may_be_added_and_still_only_the_adapter_learns() -> None:
    given = batch()
    with_tracking = settings(mad={"lambda_track": 1.0, "l1": 0, "ssim": 0, "grad": 0})
    net = for_stage_one(small_tpf(bottleneck=None))
    losses = step(net, given, with_tracking)
    losses.total.backward()
    assert float(losses.total.detach()) == pytest.approx(float(losses.parts["task"]), rel=1e-5)
    assert gradients(net) == {"fusion"}


def test_a_tracker_that_would_learn_in_stage_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"stage mad trains the adapter alone.*optimiser\.learning_rates"):
        step(small_tpf(bottleneck=None), batch(), settings())


def test_the_prior_is_a_running_mean_that_a_checkpoint_keeps() -> None:
    chosen, net, given = settings(mad={"prior": 0.9}), for_stage_one(small_tpf(bottleneck=None)), batch()
    memory = Memory(3)
    tpf_step(net, given, chosen, memory=memory)
    own = tpf_step(net, given, settings(), memory=Memory(3)).parts
    mean = torch.stack([own[f"w_{name}"] for name in chosen.mad.experts])
    assert memory.prior.tolist() == pytest.approx((0.9 / 3 + 0.1 * mean).tolist(), rel=1e-4)
    assert memory.state_dict().keys() == {"prior"}
    heavy = Memory(3)
    heavy.prior.copy_(torch.tensor([0.98, 0.01, 0.01]))
    assert float(tpf_step(net, given, chosen, memory=heavy).parts["w_laplacian"]) > float(mean[0])
    untouched = Memory(3)
    tpf_step(net, given, settings(), memory=untouched)
    assert untouched.prior.tolist() == pytest.approx([1 / 3] * 3)


def test_cached_weights_judge_a_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from duotrack.training.methods import mad

    chosen, net = settings(mad={"weights": "cached"}), for_stage_one(small_tpf(bottleneck=None))
    seen: list[int] = []
    real = mad.judge

    def counted(net: Any, taught: Any, box: Tensor, chosen: Any) -> Tensor:
        seen.append(len(box))
        return real(net, taught, box, chosen)

    monkeypatch.setattr(mad, "judge", counted)
    fixed = {f"centred_{key}": value for key, value in batch(seed=5, dynamic=False).items()}
    memory = Memory(3)
    first = tpf_step(net, batch() | fixed | {"frame": torch.tensor([4, 8, 9])}, chosen, memory=memory)
    other = {key: value.flip(0) for key, value in fixed.items()}
    second = tpf_step(net, batch(seed=1) | other | {"frame": torch.tensor([9, 8, 4])}, chosen, memory=memory)
    assert seen == [1, 1, 1]
    for name in chosen.mad.experts:
        assert float(first.parts[f"w_{name}"]) == pytest.approx(float(second.parts[f"w_{name}"]), abs=1e-6)
    tpf_step(net, batch() | fixed | {"frame": torch.tensor([4, 11, 9])}, chosen, memory=memory)
    assert seen == [1, 1, 1, 1]
    with pytest.raises(InputError, match=r"data\.sampling\.centred=true"):
        tpf_step(net, batch(), chosen, memory=memory)


def test_an_expert_from_a_cache_teaches_by_what_the_pairs_bring(tmp_path: Any) -> None:
    make_cache(tmp_path / "slow", "slow", "1")
    chosen = settings(mad={"experts": ["average", f"cache:{tmp_path / 'slow'}", "max"]})
    (cache,) = METHODS["tpf"].caches(chosen)
    assert isinstance(cache, FrameCache)
    net, given = for_stage_one(small_tpf(bottleneck=None)), batch()
    brought = {f"fused_{view}": torch.randn_like(given[view][:, :1]) for view in ("template", "dynamic", "search")}
    taught = expert_images(named_experts(chosen.mad), given | brought, "search")
    torch.testing.assert_close(taught[1], denormalise(brought["fused_search"][:, 0]).clamp(0, 1))
    assert {"w_average", "w_slow", "w_max"} <= step(net, given | brought, chosen).parts.keys()
    with pytest.raises(InputError, match="expert slow lies in a cache"):
        step(net, given, chosen)


def test_a_missing_expert_ends_the_run_or_is_left_out(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    experts = ["average", {"name": "emma", "weights": str(tmp_path / "no.pth")}]
    with pytest.raises(InputError, match=r"no\.pth"):
        tpf_memory(settings(mad={"experts": experts}))
    chosen = settings(mad={"experts": experts, "on_missing": "skip"})
    losses = step(for_stage_one(small_tpf(bottleneck=None)), batch(), chosen)
    step(for_stage_one(small_tpf(bottleneck=None)), batch(), chosen)
    assert float(losses.parts["w_average"]) == pytest.approx(1)
    assert sum("emma is left out" in message for message in caplog.messages) == 1
    assert isinstance(chosen.mad.experts[1], ExpertSource)


def test_distillation_counts_the_search_image_once_and_templates_by_their_mean() -> None:
    chosen, net, given = settings(mad={"tau": math.inf, "template_weight": 0.5}), small_tpf(bottleneck=None), batch()
    fused = fuse_views(net, given)
    experts = named_experts(chosen.mad)
    apart = {}
    for name, image in fused.items():
        taught = expert_images(experts, given, name)
        apart[name] = float(image_distance(denormalise(image), taught, l1=1, ssim=1, grad=1).mean().detach())
    loss, _ = distillation(net, fused, given, chosen, Memory(3))
    expected = apart["search"] + 0.5 * (apart["template"] + apart["dynamic"]) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
