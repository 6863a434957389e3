"""PATrack against the reference vectors, and its behaviour on small networks."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from duotrack.models.adapters import FrequencyMixer, SharedAttention
from duotrack.models.head import CenterHead
from duotrack.models.patrack import AdaptedBlock, PATrack
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import build_patrack_base
from duotrack.training.losses import decode
from reference import golden_array, golden_file, golden_input, manifest

SMALL = partial(
    VisionTransformer,
    template_size=32,
    search_size=64,
    dim=32,
    depth=4,
    heads=2,
    block=partial(AdaptedBlock, width=8),
)


def small_patrack(**options: object) -> PATrack:
    torch.manual_seed(0)
    settings = {"entangled": (1, 3), "head_width": 8, **options}
    return PATrack(backbone=SMALL, head=lambda inputs: CenterHead(inputs=inputs, channels=16), **settings)  # type: ignore[arg-type]


def small_inputs(batch: int = 2) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    image = lambda size: torch.randn(batch, 3, size, size, generator=generator)  # noqa: E731
    return {"template": (image(32), image(32)), "search": (image(64), image(64))}


def reference_inputs() -> dict[str, tuple[Tensor, Tensor]]:
    crop = lambda name, size: torch.from_numpy(golden_input(f"patrack.{name}.b", (1, 3, size, size)))  # noqa: E731
    return {
        "template": (crop("rgb.template", 128), crop("x.template", 128)),
        "search": (crop("rgb.search", 256), crop("x.search", 256)),
    }


@pytest.fixture(scope="module")
def reference_net() -> PATrack:
    """patrack-base with the reference weights."""
    with torch.device("meta"):
        net = build_patrack_base()
    shapes = manifest("patrack_state_dict")
    net.load_state_dict({k: torch.from_numpy(golden_array(k, tuple(s))) for k, s in shapes.items()}, assign=True)
    return net.eval()


def test_the_state_dict_and_the_counts_are_the_published_ones(reference_net: PATrack) -> None:
    """docs/specs/patrack.md, section 1.8."""
    ours = {key: list(value.shape) for key, value in reference_net.state_dict().items()}
    assert ours == manifest("patrack_state_dict")
    assert len(ours) == 730
    sizes = {name: p.numel() for name, p in reference_net.named_parameters()}
    used = {name for name, p in reference_net.named_parameters() if p.requires_grad}
    adapters = {name for name in sizes if "adap" in name}
    assert sum(sizes.values()) == 105_667_413
    assert sum(sizes[name] for name in adapters) == 13_110_480
    assert sum(sizes[name] for name in adapters & used) == 3_722_904
    norms = {name for name in sizes if "norml" in name or name.startswith("norm1.")}
    assert sum(sizes[name] for name in norms) == 38_400
    assert sum(sizes[name] for name in sizes.keys() - adapters - norms) == 92_518_533
    by_kind = {
        "adap_t": 9 * 16_300,
        "adap2_t": 9 * 16_300,
        "highfuseadapter1": 3 * 516_096,
        "highfuseadapter2": 3 * 516_096,
        "adapter_head": 332_928,
    }
    for kind, count in by_kind.items():
        assert sum(sizes[name] for name in used if kind in name.split(".")) == count, kind


def test_parity_with_the_reference(reference_net: PATrack) -> None:
    """Maps, box and the statistics of every stage: tests/golden/README_patrack.md."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, _module: object, args: tuple[Tensor, ...], out: Tensor) -> None:
        if name == "adapter_head":
            seen["adapter_head.in"], seen["adapter_head.out"] = args[0][0], out[0]
        else:
            seen[f"{name}.x"], seen[f"{name}.xi"] = out

    modules = {f"block{i:02}": block for i, block in enumerate(reference_net.backbone.blocks)}
    modules["adapter_head"] = reference_net.adapter_head
    hooks = [module.register_forward_hook(partial(keep, name)) for name, module in modules.items()]
    with torch.inference_mode():
        out = reference_net(**reference_inputs())
    for hook in hooks:
        hook.remove()
    golden = golden_file("patrack_rgbt")
    for name in ("score_map", "size_map", "offset_map"):
        np.testing.assert_allclose(getattr(out, name), golden[name], atol=1e-4, rtol=0)
    np.testing.assert_allclose(decode(out)[:, None], golden["pred_boxes"], atol=1e-4, rtol=0)
    assert int(out.score_map.argmax()) == 226
    stages = golden_file("patrack_rgbt_stages")
    assert {name.rpartition(".")[0] for name in stages} == seen.keys()
    for name, tokens in seen.items():
        mean_std = [float(tokens.mean()), float(tokens.std(correction=0))]
        np.testing.assert_allclose(mean_std, stages[f"{name}.meanstd"], atol=1e-4, rtol=0, err_msg=name)
        np.testing.assert_allclose(tokens[::64, :8], stages[f"{name}.sample"], atol=1e-4, rtol=0, err_msg=name)


def test_the_papers_routing_moves_the_maps_of_the_reference(reference_net: PATrack) -> None:
    golden = golden_file("patrack_rgbt")
    reference_net.routing = "published"
    with torch.inference_mode():
        out = reference_net(**reference_inputs())
    reference_net.routing = "released"
    assert np.abs(out.offset_map.numpy() - golden["offset_map"]).max() > 0.1


@pytest.mark.parametrize("routing", ["released", "published"])
def test_routing_of_the_modality_dependent_adapter(routing: str) -> None:
    """Without attention and MLP one block of this kind adds an adapter's output: the other stream's, or its own."""
    block = AdaptedBlock(dim=32, heads=2, width=8).eval()
    for module in (block.attn.proj, block.mlp.fc2, block.adap2_t.proj):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    tokens = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = block(tokens, (2, 4), entangled=False, crossed=routing == "released")
        added = block.adap_t(block.norm1(tokens), (2, 4))
    rgb, aux = (1, 0) if routing == "released" else (0, 1)
    torch.testing.assert_close(out, tokens + torch.stack([added[rgb], added[aux]]))


@pytest.mark.parametrize("crossed", [True, False])
def test_the_entangled_adapter_is_its_formula(crossed: bool) -> None:
    """docs/specs/patrack.md, section 1.4, step by step."""
    torch.manual_seed(0)
    adapter = SharedAttention(dim=12, width=6).double()
    x, y = torch.randn(2, 12, 2, 2, dtype=torch.float64)
    matrix = lambda name: adapter.get_submodule(name).weight[:, :, 0, 0]  # noqa: E731
    with torch.no_grad():
        got = adapter(torch.stack([x, y]).flatten(2).transpose(1, 2), (2,), crossed=crossed)
        low = {"x": matrix("down") @ x.flatten(1), "y": matrix("down") @ y.flatten(1)}
        q = matrix("obj_fuse.linearcat") @ torch.cat([low["x"], low["y"]])
        looks = {}
        for name, key, value in (("x", 1, 2), ("y", 3, 4)):
            k, v = (matrix(f"obj_fuse.linear{i}") @ low[name] for i in (key, value))
            looks[name] = v @ (k.T @ q).softmax(dim=-1).T
        if crossed:
            wanted = {"x": looks["x"] + low["y"], "y": looks["y"] + low["x"]}
        else:
            wanted = {"x": looks["y"] + low["x"], "y": looks["x"] + low["y"]}
        for i, name in enumerate("xy"):
            torch.testing.assert_close(got[i].T, matrix("up") @ wanted[name])


def test_template_and_search_do_not_meet_in_the_adapters() -> None:
    torch.manual_seed(0)
    mixer, entangle = FrequencyMixer(dim=8, hidden=4), partial(SharedAttention(dim=8, width=4), crossed=True)
    tokens = torch.randn(2, 4 + 16, 8)
    for adapter in (mixer, entangle):
        both = adapter(tokens, (2, 4))
        torch.testing.assert_close(both[:, :4], adapter(tokens[:, :4], (2,)))
        torch.testing.assert_close(both[:, 4:], adapter(tokens[:, 4:], (4,)))


@pytest.mark.parametrize("routing", ["released", "published"])
def test_what_is_frozen_from_the_start_is_exactly_what_the_forward_never_uses(routing: str) -> None:
    net = small_patrack(routing=routing).train()
    net.requires_grad_(True)
    out = net(**small_inputs())
    (out.score_map.sum() + out.size_map.sum() + out.offset_map.sum()).backward()
    never = {name for name, p in net.named_parameters() if p.grad is None}
    frozen = {name for name, p in small_patrack(routing=routing).named_parameters() if not p.requires_grad}
    assert never == frozen
    assert {"norm1.weight", "backbone.cls_token", "backbone.blocks.1.adap_t.proj.bias"} <= frozen
    assert "backbone.blocks.1.highfuseadapter1.obj_fuse.gamma1" in frozen
    assert "backbone.blocks.3.norml2.weight" not in frozen


@pytest.mark.parametrize(("missing", "there"), [(0, 1), (1, 0)])
def test_a_missing_modality_sees_the_others_images(missing: int, there: int) -> None:
    net = small_patrack().eval()
    inputs = small_inputs()
    names = ("rgb", "aux")
    copied = {kind: (pair[there], pair[there]) for kind, pair in inputs.items()}
    without = tuple(None if i == missing else image for i, image in enumerate(inputs["search"]))
    with torch.inference_mode():
        wanted = net(**copied)
        by_none = net(template=inputs["template"], search=without)
        by_name = net(**inputs, available=(names[there],))
    torch.testing.assert_close(by_none.score_map, wanted.score_map)
    torch.testing.assert_close(by_name.offset_map, wanted.offset_map)


def test_a_modality_without_template_takes_the_others() -> None:
    net = small_patrack().eval()
    inputs = small_inputs()
    with torch.inference_mode():
        alone = net(template=(inputs["template"][0], None), search=inputs["search"])
        given = net(template=(inputs["template"][0], inputs["template"][0]), search=inputs["search"])
        late = net(template=(inputs["template"][0], None), search=(None, inputs["search"][1]))
    torch.testing.assert_close(alone.score_map, given.score_map)
    assert not torch.equal(late.score_map, given.score_map)


def test_a_batch_that_mixes_availability_equals_one_by_one() -> None:
    net = small_patrack().eval()
    inputs = small_inputs(batch=4)
    present = torch.tensor([[True, False], [True, True], [False, True], [True, True]])
    with torch.inference_mode():
        mixed = net(**inputs, present=present)
        for i, (rgb, aux) in enumerate(present.tolist()):
            names = tuple(name for name, there in (("rgb", rgb), ("aux", aux)) if there)
            one = {key: (pair[0][i : i + 1], pair[1][i : i + 1]) for key, pair in inputs.items()}
            torch.testing.assert_close(mixed.score_map[i : i + 1], net(**one, available=names).score_map)
    with pytest.raises(ValueError, match="missing in a sample"):
        net(**inputs, present=torch.zeros(4, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="both modalities are given"):
        net(template=inputs["template"], search=(inputs["search"][0], None), present=present)


@pytest.mark.parametrize("gap", ["search", "template"])
def test_nothing_to_look_at_is_an_error(gap: str) -> None:
    inputs: dict[str, object] = {**small_inputs(), gap: (None, None)}
    with pytest.raises(ValueError, match="both modalities are missing"):
        small_patrack()(**inputs)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="released, published, got 'sideways'"):
        small_patrack(routing="sideways")
    with pytest.raises(ValueError, match="must be even"):
        PATrack(backbone=partial(SMALL, template_size=48), head=lambda c: CenterHead(inputs=c, channels=16))
    with pytest.raises(ValueError, match="multiple of 4"):
        FrequencyMixer(dim=8, hidden=6)


def test_stochastic_depth_drops_each_term_in_training_only() -> None:
    torch.manual_seed(0)
    block = AdaptedBlock(dim=32, heads=2, width=8, drop_path=0.5)
    tokens = torch.randn(1, 20, 32).expand(64, -1, -1)
    with torch.inference_mode():
        spread = [
            len(torch.unique(block.train(mode)(tokens, (2, 4), entangled=entangled, crossed=True).sum((1, 2))))
            for mode in (True, False)
            for entangled in (True, False)
        ]
    assert min(spread[:2]) > 8  # four independent terms: up to sixteen outcomes
    assert max(spread[2:]) <= 2
