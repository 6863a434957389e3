"""TPF's network: what the tracker sees, two templates, missing modalities, the relevance gate, elimination."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from duotrack.models.head import CenterHead
from duotrack.models.pixel_fusion import PixelFusionAdapter
from duotrack.models.statistics import denormalise, normalise
from duotrack.models.tpf import TPF, RelevanceGate, as_map, as_tokens
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, build_on_meta


def small(*, bottleneck: int | None = 8, elimination: str = "none", awake: bool = True, **options: object) -> TPF:
    """Two layers of 64 channels, templates 32, search 64, evaluation mode."""
    torch.manual_seed(0)
    net = TPF(
        fusion=partial(PixelFusionAdapter, width=8, d_state=4),
        branch=partial(VisionTransformer, template_size=32, search_size=64, dim=64, depth=2, heads=4, drop_path=0.0),
        head=lambda inputs: CenterHead(inputs=inputs, channels=16),
        gate=None if bottleneck is None else lambda dim: RelevanceGate(dim=dim, bottleneck=bottleneck),
        elimination=elimination,
        stages=(0,),
        **options,  # type: ignore[arg-type]
    ).eval()
    if awake:
        nn.init.normal_(net.fusion.head.weight, std=0.1)
        if net.gate is not None:
            nn.init.normal_(net.gate.up.weight, std=1.0)
    return net


def images(batch: int = 2, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    sizes = {"template": 32, "search": 64, "dynamic": 32}
    return {
        name: tuple(torch.randn(batch, 3, size, size, generator=draw) for _ in range(2))  # type: ignore[misc]
        for name, size in sizes.items()
    }


def close(one: Tensor, other: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize(("name", "parameters"), [("tpf-base", 92_742_033), ("tpf-tiny", 14_474_401)])
def test_models_of_the_zoo(name: str, parameters: int) -> None:
    spec = MODELS[name]
    net = build_on_meta(spec)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(p.numel() for p in net.get_submodule("fusion").parameters()) == 72_108
    t, s = spec.geometry.template_size, spec.geometry.search_size
    z, x = torch.zeros(1, 3, t, t, device="meta"), torch.zeros(1, 3, s, s, device="meta")
    with torch.device("meta"):
        features, _ = net.encode([z, z], x)
    assert features.shape[1] == (2 * t * t + s * s) // 256


def test_the_tracker_sees_the_fused_image_only() -> None:
    net, given = small(), images()
    out = net(**given)
    templates = [net.fuse(*given["template"]), net.fuse(*given["dynamic"])]
    again = net.find(templates, net.fuse(*given["search"]))
    close(out.score_map, again.score_map, 0)
    rgb, aux = given["search"]
    close(net.fuse(rgb, aux), normalise(net.fusion(denormalise(rgb), denormalise(aux))), 1e-6)
    assert out.score_map.shape == (2, 1, 4, 4)
    assert out.size_map.shape == out.offset_map.shape == (2, 2, 4, 4)
    assert out.features is not None
    assert out.features.shape == (2, 4 + 4 + 16, 64)
    assert net.search_tokens(out).shape == (2, 16, 64)


def test_a_fresh_network_tracks_the_mean_of_both() -> None:
    net, given = small(awake=False), images()
    mean = {name: (pair[0] + pair[1]) / 2 for name, pair in given.items()}
    out = net.find([mean["template"], mean["dynamic"]], mean["search"])
    close(net(**given).score_map, out.score_map)


def test_without_a_dynamic_template_the_first_one_stands_in_both_places() -> None:
    net, given = small(), images()
    one = net(template=given["template"], search=given["search"])
    close(one.score_map, net(**{**given, "dynamic": given["template"]}).score_map, 0)
    assert not torch.allclose(one.score_map, net(**given).score_map)


def test_slots_tell_the_templates_apart() -> None:
    net, given = small(), images()
    assert (net.template_slots == 0).all()
    swapped = {**given, "template": given["dynamic"], "dynamic": given["template"]}
    close(net(**given).score_map, net(**swapped).score_map)
    nn.init.normal_(net.template_slots)
    one, other = net(**given).features, net(**swapped).features
    assert not torch.allclose(one[:, :4], other[:, 4:8], atol=0.1)
    assert not torch.allclose(one[:, 8:], other[:, 8:], atol=1e-6)


def test_a_missing_modality_takes_the_others_pixels() -> None:
    net, given = small(), images()
    rgb, aux = given["search"]
    filled = net(template=given["template"], search=(rgb, rgb))
    close(net(template=given["template"], search=(rgb, None)).score_map, filled.score_map, 0)
    close(net(template=given["template"], search=(rgb, aux), available=("rgb",)).score_map, filled.score_map, 0)
    alone = net(template=(None, given["template"][1]), search=(rgb, aux))
    both = net(template=(given["template"][1],) * 2, search=(rgb, aux))
    close(alone.score_map, both.score_map, 0)
    for lacking in ({"search": (None, None)}, {"template": (None, None)}, {"available": ()}):
        with pytest.raises(ValueError, match="both modalities are missing"):
            net(**{"template": given["template"], "search": given["search"], **lacking})


def test_samples_may_lack_different_modalities() -> None:
    net, given = small(), images(3)
    present = torch.tensor([[True, True], [True, False], [False, True]])
    mixed = net(**given, present=present)
    for i, row in enumerate(present.tolist()):
        own = {
            name: tuple(image[i : i + 1] if there else None for image, there in zip(pair, row, strict=True))
            for name, pair in given.items()
        }
        close(net(**own).score_map, mixed.score_map[i : i + 1])


@pytest.mark.parametrize("level", ["backbone", "pfa"])
def test_the_split_adds_up(level: str) -> None:
    net = small(level=level)
    tokens = torch.randn(2, 16, 64 if level == "backbone" else 8)
    split = net.split(tokens)
    close(split.relevant + split.irrelevant, tokens, 1e-6)
    close(split.relevant, split.gate * tokens, 0)
    assert ((split.gate > 0) & (split.gate < 1)).all()


def test_a_fresh_gate_takes_next_to_nothing_away() -> None:
    gate = RelevanceGate(dim=64, bottleneck=96)
    assert torch.allclose(gate(torch.randn(1, 5, 64)), torch.sigmoid(torch.tensor(2.0)))
    with torch.device("meta"):
        count = sum(p.numel() for p in RelevanceGate(dim=768).parameters())
    assert count == 2 * 768 + 768 * 96 + 96 + 96 * 768 + 768


def test_the_head_reads_what_is_relevant_unless_the_gate_does_not_answer() -> None:
    given = images()
    answers, silent, none = small(), small(gate_answers=False), small(bottleneck=None)
    state = answers.state_dict()
    silent.load_state_dict(state)
    none.load_state_dict({key: value for key, value in state.items() if not key.startswith("gate.")})
    out = answers(**given)
    close(out.score_map, answers.box_head(answers.split(answers.search_tokens(out)).relevant).score_map, 0)
    close(silent(**given).score_map, none(**given).score_map, 0)
    assert not torch.allclose(out.score_map, silent(**given).score_map, atol=1e-4)
    with pytest.raises(ValueError, match="no relevance gate"):
        none.split(torch.zeros(1, 4, 64))


def test_at_the_adapter_only_the_relevant_features_are_drawn() -> None:
    given = images()
    net, plain = small(level="pfa"), small(bottleneck=None)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("gate.")})
    rgb, aux = (denormalise(image) for image in given["search"])
    features = net.fusion.encode(rgb, aux)
    relevant = as_map(net.split(as_tokens(features)).relevant, features)
    close(net.fuse(*given["search"]), normalise(net.fusion.decode(relevant, rgb, aux)), 0)
    assert not torch.allclose(net.fuse(*given["search"]), plain.fuse(*given["search"]), atol=1e-4)
    drawn = net.fuse(*given["search"])
    templates = [net.fuse(*given["template"])] * 2
    close(net.find(templates, drawn).score_map, plain.find(templates, drawn).score_map, 0)


def test_elimination_keeps_places() -> None:
    net, given = small(elimination="ce", bottleneck=None), images()
    out = net(**given)
    assert [k.shape for k in out.kept["fused"]] == [(2, 12)]
    gone = torch.ones(2, 16, dtype=torch.bool).scatter(1, out.kept["fused"][-1], False)
    tokens = net.search_tokens(out)
    assert (tokens[gone] == 0).all()
    assert (tokens[~gone].abs().sum(-1) > 0).all()
    net.elimination = "none"
    assert net(**given).kept == {}


@pytest.mark.parametrize(
    ("options", "message"), [({"elimination": "mce"}, "none, ce"), ({"level": "head"}, "backbone, pfa")]
)
def test_unknown_switches_are_errors(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)  # type: ignore[arg-type]
