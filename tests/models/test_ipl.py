"""IPL against the reference vectors, and every availability state on small networks."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from duotrack.models.head import CenterHead, FrozenNorm
from duotrack.models.ipl import IPL
from duotrack.models.outputs import HeadMaps, NetOutput
from duotrack.models.prompter import Prompter
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, build_on_meta
from reference import golden_array, golden_file, golden_input, manifest

SMALL = partial(VisionTransformer, template_size=32, search_size=64, dim=32, depth=4, heads=2, drop_path=0.0)
BOTH = ("rgb", "aux")
MAPS = ("score_map", "size_map", "offset_map")


def small_ipl(**options: object) -> IPL:
    """Four blocks, two specific layers; prompters far from identity, statistics of the head's norms not at rest."""
    torch.manual_seed(0)
    settings = {"stages": (1, 2), **options}
    net = IPL(branch=SMALL, head=lambda c: CenterHead(inputs=c, channels=16, norm=FrozenNorm), **settings)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def small_inputs(batch: int = 2) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    image = lambda size: torch.randn(batch, 3, size, size, generator=generator)  # noqa: E731
    return {"template": (image(32), image(32)), "search": (image(64), image(64))}


def assert_same_maps(one: HeadMaps, other: HeadMaps) -> None:
    for name in MAPS:
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def reference_net() -> IPL:
    """ipl-base with the reference weights."""
    net = build_on_meta(MODELS["ipl-base"])
    shapes = manifest("ipl_state_dict")
    weights = {key: torch.from_numpy(golden_array(key, tuple(shape))) for key, shape in shapes.items()}
    net.load_state_dict(weights, assign=True)
    assert isinstance(net, IPL)
    return net.eval()


def reference_inputs() -> dict[str, tuple[Tensor, Tensor]]:
    crop = lambda name, size: torch.from_numpy(golden_input(f"ipl.{name}", (1, 3, size, size)))  # noqa: E731
    return {
        "template": (crop("rgb.template", 128), crop("tir.template", 128)),
        "search": (crop("rgb.search", 256), crop("tir.search", 256)),
    }


@pytest.mark.parametrize("frozen_norm", [True, False])
def test_state_dict_is_the_official_one(frozen_norm: bool) -> None:
    net = build_on_meta(MODELS["ipl-base"], frozen_norm=frozen_norm)
    ours = {key: list(value.shape) for key, value in net.state_dict().items()}
    assert ours == manifest("ipl_state_dict")
    assert len(ours) == 884
    assert sum(value.numel() for value in net.state_dict().values()) == pytest.approx(184.12e6, abs=0.01e6)


def test_prompters_that_no_stream_passes_are_frozen_and_all_others_are_used() -> None:
    net = build_on_meta(MODELS["ipl-base"])
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    dead = {
        f"backbone.{own}_msa_layers.{k}.align_adapter_{way}.model.{c}.{net_}.{layer}.{kind}"
        for own, way in (("rgb", "rgb2tir"), ("tir", "tir2rgb"))
        for k in range(3)
        for c in range(2)
        for net_ in "FG"
        for layer in (0, 2)
        for kind in ("weight", "bias")
    }
    assert len(dead) == 96
    assert frozen == dead | {"backbone.cls_token", "backbone.pos_embed"}
    trained = sum(
        p.numel() for name, p in net.named_parameters() if p.requires_grad and ("adapter" in name or "embed_" in name)
    )
    positions = sum(net.get_parameter(f"backbone.pos_embed_{which}").numel() for which in "zx")
    assert trained - positions == pytest.approx(36.66e6, abs=0.01e6)


def test_forward_parity_with_both_modalities(reference_net: IPL) -> None:
    golden = golden_file("ipl_complete")
    with torch.inference_mode():
        out = reference_net(**reference_inputs())
    for name in MAPS:
        torch.testing.assert_close(getattr(out, name), torch.from_numpy(golden[name]), atol=1e-4, rtol=0)
    assert out.features is not None
    for name, kept, tokens in zip(("rgb", "tir"), BOTH, out.features.chunk(2, dim=-1), strict=True):
        assert [stage.shape[1] for stage in out.kept[kept]] == [180, 126, 89]
        assert out.kept[kept][-1].tolist() == golden[f"kept_index_{name}"].tolist()
        torch.testing.assert_close(
            tokens[:, 64:80, :64], torch.from_numpy(golden[f"tokens_{name}_head"]), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(tokens.mean(-1), torch.from_numpy(golden[f"tokens_{name}_mean"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("available", "limit"), [(BOTH, 53.75e9), (("rgb",), 57.8e9), (("aux",), 57.8e9)])
def test_multiply_accumulates(reference_net: IPL, available: tuple[str, ...], limit: float) -> None:
    """docs/specs/ipl.md, section 6; the plain attention kernel is the one whose products the counter sees."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reference_net(**reference_inputs(), available=available)
    assert 0.99 * limit < counter.get_total_flops() / 2 <= limit


@pytest.mark.parametrize("available", [("rgb",), ("aux",)])
@pytest.mark.parametrize("elimination", ["ce", "none"])
def test_a_missing_modality_is_not_looked_at(available: tuple[str, ...], elimination: str) -> None:
    net, inputs = small_ipl(elimination=elimination), small_inputs()
    side = BOTH.index(available[0])
    other = {key: [image.clone() for image in pair] for key, pair in inputs.items()}
    for pair in other.values():
        pair[1 - side].fill_(float("nan"))
    only = {key: tuple(image if i == side else None for i, image in enumerate(pair)) for key, pair in inputs.items()}
    with torch.inference_mode():
        by_name = net(**inputs, available=available)
        by_nan = net(**{key: tuple(pair) for key, pair in other.items()}, available=available)
        by_none = net(template=inputs["template"], search=only["search"])
        alone = net(**only)
    for out in (by_nan, by_none, alone):
        assert_same_maps(out, by_name)
    assert set(by_name.kept) == set(BOTH)


def plain_stream(net: IPL, template: Tensor, search: Tensor, *, specific: str, prompter: str | None) -> Tensor:
    """One stream as section 2 of the specification tells it, step by step, without elimination."""
    backbone = net.backbone
    patches = backbone.patch_embed if prompter is None else backbone.get_submodule(f"patch_embed_{prompter}")
    x = torch.cat([patches(template) + backbone.pos_embed_z, patches(search) + backbone.pos_embed_x], dim=1)
    prompt = lambda layer, y: y if prompter is None else layer.get_submodule(f"align_adapter_{prompter}").reverse(y)  # noqa: E731
    for i, block in enumerate(backbone.blocks):
        x = block(prompt(block, x))
        if i in net.stages:
            k = net.stages.index(i)
            token = backbone.get_parameter(f"mst_{specific}_token")[k].expand(len(x), -1, -1)
            layer = backbone.get_submodule(f"{specific}_msa_layers.{k}")
            x = layer(prompt(layer, torch.cat([token, x], dim=1)))[:, 1:]
    return backbone.norm(x)


ROUTES = {
    BOTH: ((0, "rgb", None), (1, "tir", None)),
    ("rgb",): ((0, "rgb", None), (0, "tir", "rgb2tir")),
    ("aux",): ((1, "rgb", "tir2rgb"), (1, "tir", None)),
}


@pytest.mark.parametrize("available", ROUTES)
def test_streams_go_as_specified(available: tuple[str, ...]) -> None:
    net, inputs = small_ipl(elimination="none"), small_inputs()
    with torch.inference_mode():
        out = net(**inputs, available=available)
        streams = [
            plain_stream(net, inputs["template"][i], inputs["search"][i], specific=specific, prompter=prompter)
            for i, specific, prompter in ROUTES[available]
        ]
    assert out.features is not None
    torch.testing.assert_close(out.features, torch.cat(streams, dim=-1))
    assert out.kept == {"rgb": [], "aux": []}


def test_each_stream_eliminates_its_own_tokens_best_first() -> None:
    net, inputs = small_ipl(), small_inputs()
    with torch.inference_mode():
        out = net(**inputs)
        full = net(**inputs, keep_ratio=1.0)
    assert out.features is not None
    for name, half in zip(BOTH, out.features[:, 4:].chunk(2, dim=-1), strict=True):
        assert [stage.shape[1] for stage in out.kept[name]] == [12, 9]  # of 16
        survivors = torch.zeros(2, 16, dtype=torch.bool).scatter(1, out.kept[name][-1], True)
        assert torch.equal((half != 0).any(-1), survivors)
    assert not torch.equal(out.kept["rgb"][-1], out.kept["aux"][-1])
    assert any((stage.diff(dim=1) < 0).any() for stage in out.kept["rgb"])  # not in raster order
    assert full.kept == {"rgb": [], "aux": []}


@pytest.mark.parametrize("elimination", ["mce", "some"])
def test_other_eliminations_are_refused(elimination: str) -> None:
    with pytest.raises(ValueError, match="ce, none"):
        small_ipl(elimination=elimination)


@pytest.mark.parametrize("gap", ["search", "template", "available"])
def test_neither_modality_is_an_error(gap: str) -> None:
    inputs: dict[str, object] = {**small_inputs(), gap: () if gap == "available" else (None, None)}
    with pytest.raises(ValueError, match="both modalities are missing"):
        small_ipl()(**inputs)


def test_a_modality_without_template_is_searched_with_the_others() -> None:
    net, inputs = small_ipl(), small_inputs()
    rgb = inputs["template"][0]
    with torch.inference_mode():
        assert_same_maps(net(template=(rgb, None), search=inputs["search"]), net(**{**inputs, "template": (rgb, rgb)}))
        late = net(template=(rgb, None), search=(None, inputs["search"][1]))
        assert_same_maps(late, net(template=(None, rgb), search=(None, inputs["search"][1])))


def test_a_batch_that_mixes_availability_equals_one_by_one() -> None:
    net, inputs = small_ipl(), small_inputs(batch=4)
    present = torch.tensor([[True, False], [True, True], [False, True], [True, True]])
    with torch.inference_mode():
        mixed = net(**inputs, present=present)
        for i, row in enumerate(present.tolist()):
            names = tuple(name for name, there in zip(BOTH, row, strict=True) if there)
            one = {key: (pair[0][i : i + 1], pair[1][i : i + 1]) for key, pair in inputs.items()}
            alone = net(**one, available=names)
            torch.testing.assert_close(mixed.score_map[i : i + 1], alone.score_map)
    assert len(mixed.kept["rgb"][0]) == 2
    with pytest.raises(ValueError, match="missing in a sample"):
        net(**inputs, present=torch.zeros(4, 2, dtype=torch.bool))


def test_the_states_of_training_are_the_forward_passes_and_only_they_reconstruct() -> None:
    net, inputs = small_ipl(), small_inputs()
    passes: list[str] = []
    for name, module in net.named_modules():
        if isinstance(module, Prompter):
            module.register_forward_hook(lambda *_, name=name: passes.append(name))
    with torch.inference_mode():
        for maps, names in ((net(**inputs), BOTH), (net(**inputs, available=("rgb",)), ("rgb",))):
            assert isinstance(maps, NetOutput), names
        assert not passes
        states = net.states(**inputs)
    assert len(passes) == 2 * (4 + 2)
    assert not any("rgb_msa_layers" in name and "rgb2tir" in name for name in passes)
    with torch.inference_mode():
        assert_same_maps(states.complete, net(**inputs))
        assert_same_maps(states.no_aux, net(**inputs, available=("rgb",)))
        assert_same_maps(states.no_rgb, net(**inputs, available=("aux",)))
    counts = [20, 20, 1 + 16, 16, 1 + 13, 13]  # 4 template tokens and 16, 12, 9 search tokens; a token in front
    assert {name: [x.shape[1] for x in features] for name, features in states.features.items()} == dict.fromkeys(
        ("rgb", "tir", "rgb2tir", "tir2rgb"), counts
    )
    assert set(states.rebuilt) == {"rgb2tir", "tir2rgb"}
    # the first prompter's input is the embedding: its own patches, the shared positions
    embedded = net.backbone.embed(inputs["template"][0], inputs["search"][0], patches=net.backbone.patch_embed_rgb2tir)
    torch.testing.assert_close(states.rebuilt["rgb2tir"][0], embedded, atol=1e-5, rtol=1e-5)


def test_frozen_norms_rest_in_training_and_trainable_ones_do_not() -> None:
    cells = 3 + 2 * torch.randn(4, 5, 6, 6)
    frozen, moving = FrozenNorm(5), FrozenNorm(5, frozen=False)
    reference = torch.nn.BatchNorm2d(5)
    torch.testing.assert_close(frozen.train()(cells), cells / (1 + 1e-5) ** 0.5)
    assert float(frozen.running_mean.abs().sum()) == 0
    torch.testing.assert_close(moving.train()(cells), reference.train()(cells))
    torch.testing.assert_close(moving.running_var, reference.running_var)
    torch.testing.assert_close(moving.eval()(cells), reference.eval()(cells))
    assert [name for name, _ in moving.named_parameters()] == ["weight", "bias"]
    assert not list(frozen.parameters())
    assert set(frozen.state_dict()) == set(moving.state_dict()) == {"weight", "bias", "running_mean", "running_var"}


def test_the_small_model_shares_the_backbone_and_head_of_ckd_tiny() -> None:
    ours, theirs = (build_on_meta(MODELS[name]).state_dict() for name in ("ipl-tiny", "ckd-tiny"))
    shapes = {key: value.shape for key, value in ours.items()}
    for key, value in theirs.items():
        if not key.endswith("num_batches_tracked"):
            assert shapes[key.replace("branch.", "backbone.")] == value.shape
