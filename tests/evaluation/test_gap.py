"""Reading streams out of networks, measuring the gap between them, reports and figures."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from duotrack.datasets.layouts import open_lasher
from duotrack.errors import InputError
from duotrack.evaluation import gap_plots
from duotrack.evaluation.gap import Gap, measure_gap, salience, similarity, summary
from duotrack.evaluation.gap_report import read_curves
from duotrack.evaluation.gap_sampling import Sampling
from duotrack.evaluation.streams import read_streams
from duotrack.models.attention import Block
from duotrack.models.ckd import CKD
from duotrack.models.head import CenterHead
from duotrack.models.pixel_fusion import PixelFusionAdapter
from duotrack.models.tpf import TPF
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import Geometry
from sequences import write_sequence

GEOMETRY = Geometry(template_size=32, search_size=64)
CPU = torch.device("cpu")


def branch() -> VisionTransformer:
    return VisionTransformer(template_size=32, search_size=64, dim=24, depth=3, heads=2, drop_path=0.0)


def head(inputs: int) -> CenterHead:
    return CenterHead(inputs=inputs, channels=16)


def ckd(**options: object) -> CKD:
    torch.manual_seed(1)
    return CKD(branch=branch, head=head, stages=(1,), **options).eval()  # type: ignore[arg-type]


def tpf() -> TPF:
    torch.manual_seed(2)
    fusion = lambda: PixelFusionAdapter(width=8, d_state=4)  # noqa: E731
    net = TPF(fusion=fusion, branch=branch, head=head, gate=None)
    nn.init.normal_(net.fusion.head.weight, std=0.2)
    return net.eval()


class Joined(nn.Module):
    """Both streams as one batch through one backbone whose blocks use their first norm again, as PATrack does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.backbone = branch()
        self.elimination = "none"

    def forward(self, *, template, search, available):
        tokens = self.backbone.embed(torch.cat(template), torch.cat(search))
        self.given = []
        for block in self.backbone.blocks:
            self.given.append(tokens)
            tokens = block(tokens) + 0 * block.norm1(tokens + 1)
        self.given.append(tokens)
        self.backbone.norm(tokens)
        return


def images(batch: int = 3):
    rng = torch.Generator().manual_seed(5)
    return [tuple(torch.randn(batch, 3, side, side, generator=rng) for _ in range(2)) for side in (32, 64)]


@pytest.mark.parametrize("shared", [False, True], ids=["two backbones", "one backbone twice"])
def test_streams_of_two_modalities_are_the_blocks_outputs(shared):
    net, (template, search) = ckd(shared=shared, elimination="none"), images()
    streams, fused = read_streams(net, template, search)
    assert list(streams) == ["rgb", "aux"]
    assert fused is None
    blocks = net.train()(template=template, search=search).blocks
    for name, layers in streams.items():
        assert layers.shape == (4, 3, 16, 24)
        embedded = net.students[name].embed(template[name == "aux"], search[name == "aux"])
        for got, want in zip(layers, [embedded, *blocks[name]], strict=True):
            torch.testing.assert_close(got, want[:, 4:], atol=1e-5, rtol=1e-4)


def test_elimination_rests_meanwhile():
    net, (template, search) = ckd(elimination="mce"), images()
    streams, _ = read_streams(net, template, search)
    assert streams["rgb"].shape == (4, 3, 16, 24)
    assert net.elimination == "mce"
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_streams_in_one_batch():
    net, (template, search) = Joined().eval(), images()
    streams, _ = read_streams(net, template, search)
    for layer, given in enumerate(net.given):
        torch.testing.assert_close(streams["rgb"][layer], given[:3, 4:])
        torch.testing.assert_close(streams["aux"][layer], given[3:, 4:])


def test_a_single_stream_is_compared_with_each_modality_alone():
    net, (template, search) = tpf(), images()
    streams, fused = read_streams(net, template, search)
    assert list(streams) == ["fused", "rgb", "aux"]
    torch.testing.assert_close(fused, net.fuse(*search))
    alone, _ = read_streams(net, (template[1], template[1]), (search[1], search[1]))
    torch.testing.assert_close(streams["aux"], alone["fused"])


def test_what_has_no_blocks_is_refused():
    class Other(nn.Module):
        def forward(self, *, template, search, available):
            return None

    with pytest.raises(InputError, match="the blocks of Other cannot be read"):
        read_streams(Other(), *images())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in ("alpha", "beta", "gamma", "delta", "epsilon"):
        write_sequence(root, name, 7)
    write_sequence(root, "single", 6, ("infrared",))
    write_sequence(root, "unseen", 3, boxes="20,24,16,12\n0,0,0,0\n0,0,0,0\n")
    (root / "beta" / "visible" / "000003.jpg").write_bytes(b"no image")
    return root


def measured(data: Path, net: nn.Module | None = None, names: list[str] | None = None, **sampling: int) -> Gap:
    asked = Sampling(**{"frames": 3, "tokens": 8, **sampling})  # type: ignore[arg-type]
    return measure_gap(net or ckd(), GEOMETRY, open_lasher(data, names=names), asked, device=CPU)


def test_what_is_measured(data, caplog):
    with caplog.at_level(logging.WARNING):
        gap = measured(data)
    assert set(gap.sequences) == {"alpha", "beta", "gamma", "delta", "epsilon"}
    assert [r.getMessage() for r in caplog.records if r.name.endswith("gap")] == [
        "2 sequences have no two usable frames with both modalities and are left out: single, unseen"
    ]
    values = gap.values["rgb", "aux"]
    assert {kind: rows.shape for kind, rows in values.items()} == {"features": (5, 4), "content": (5, 4)}
    assert gap.layer == 3
    assert values["features"].mean() > values["content"].mean()  # another backbone for each modality: style differs
    assert gap.points["features"]["rgb"].shape == (5 * 24, 24)
    assert len(gap.examples) == 4
    assert gap.examples[0].images["rgb"].shape == (64, 64, 3)
    assert all(example.frame not in (0, 3) for example in gap.examples if example.sequence == "beta")


def test_the_seed_decides_and_neither_order_nor_company_does(data):
    whole, again, other = measured(data), measured(data), measured(data, seed=1)
    part = measured(data, names=["gamma", "alpha"])
    for kind in ("features", "content"):
        rows = whole.values["rgb", "aux"][kind]
        np.testing.assert_array_equal(rows, again.values["rgb", "aux"][kind])
        assert (rows != other.values["rgb", "aux"][kind]).all()
        for name, row in zip(part.sequences, part.values["rgb", "aux"][kind], strict=True):
            np.testing.assert_allclose(row, rows[whole.sequences.index(name)], atol=1e-6)


def test_one_backbone_on_equal_images_has_no_gap(tmp_path):
    folder = write_sequence(tmp_path, "twins", 9)
    for file in (folder / "visible").iterdir():
        (folder / "infrared" / file.name).write_bytes(file.read_bytes())
    alike = measured(tmp_path, ckd(shared=True), frames=8, tokens=16).values["rgb", "aux"]
    apart = measured(tmp_path, ckd(), frames=8, tokens=16).values["rgb", "aux"]
    assert np.abs(alike["features"]).max() < 0.02
    assert apart["features"].min() > 0.1


def test_means_of_tokens_have_no_content(data):
    gap = measured(data, tpf(), tokens=0)
    assert list(gap.values) == [("fused", "rgb"), ("fused", "aux"), ("rgb", "aux")]
    assert [list(kinds) for kinds in gap.values.values()] == [["features"]] * 3
    assert list(gap.points) == ["features"]
    assert gap.points["features"]["fused"].shape == (15, 24)


@pytest.mark.parametrize(("layer", "expected"), [(0, 0), (-1, 3), (2, 2), (-4, 0)])
def test_layers_are_counted_from_either_end(data, layer, expected):
    assert measured(data, names=["alpha"], layer=layer).layer == expected


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"layer": 4}, r"layer 4: the network has layers 0 \(embedding\) to 3"),
        ({"layer": -5}, "layer -5"),
        ({"frames": 1, "tokens": 1}, "at least two rows"),
        ({"frames": 1, "tokens": 0}, "at least two rows"),
        ({"frames": 100, "tokens": 64}, "6400 rows a sequence: at most 2048"),
    ],
)
def test_bad_sampling_is_named(data, sampling, words):
    with pytest.raises(InputError, match=words):
        measured(data, names=["alpha"], **sampling)


def test_without_pairs_there_is_no_gap(data):
    with pytest.raises(InputError, match="no sequence has two frames with both modalities"):
        measured(data, names=["single", "unseen"])


def test_maps():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 4, 12, generator=generator)
    styled = 3 * features + torch.linspace(-5, 5, 12)  # other mean and spread of each channel: the same content
    torch.testing.assert_close(similarity(features, styled), torch.ones(4, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(salience(features), salience(styled), atol=1e-3, rtol=1e-3)
    turned = similarity(features, -features)
    torch.testing.assert_close(turned, -torch.ones(4, 4), atol=1e-4, rtol=0)
    strong = features.clone()
    strong[2, 1] *= 10
    assert int(salience(strong).argmax()) == 2 * 4 + 1


@pytest.mark.parametrize("embedding", ["pca", "tsne"])
def test_clouds_keep_what_is_apart_apart(embedding):
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(40, 10)) + shift for shift in (0.0, 6.0)]
    one, other = gap_plots.embed([cloud.astype(np.float32) for cloud in clouds], embedding, 0)
    assert one.shape == other.shape == (40, 2)
    between = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    assert between > 2 * max(one.std(), other.std(), key=float) * 0.9
    np.testing.assert_allclose(one.mean(axis=0) + other.mean(axis=0), 0, atol=1e-3 * between)
    again = gap_plots.embed([cloud.astype(np.float32) for cloud in clouds], embedding, 0)
    np.testing.assert_allclose(again[0], one)


def test_pca_finds_the_longest_axes():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 6)) * [9, 0.1, 0.1, 4, 0.1, 0.1]
    (flat,) = gap_plots.embed([rows.astype(np.float32)], "pca", 0)
    centred = rows - rows.mean(axis=0)
    assert abs(np.corrcoef(flat[:, 0], centred[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(flat[:, 1], centred[:, 3])[0, 1]) > 0.99


@pytest.mark.parametrize("single", [False, True], ids=["two streams", "single stream"])
@pytest.mark.parametrize("base", [False, True], ids=["alone", "base"])
def test_figures(data, single, base):
    """What they show, as far as axes tell; how they look was judged by eye."""
    gap = measured(data, tpf() if single else ckd())
    pairs, streams = (3, 3) if single else (1, 2)
    maps = gap_plots.map_plot(gap, gap if base else None, "title")
    cells = [axes for axes in maps.axes if axes.images and axes.get_label() != "<colorbar>"]
    columns = (3 if single else 2) + streams + (streams - 1) + (streams if base else 0)
    assert len(cells) == 4 * columns
    if base:  # the same network: alike everywhere
        assert cells[columns - 1].get_xlabel() == "mean 1.00"
    clouds = gap_plots.cloud_plot({"net": gap, **({"base": gap} if base else {})}, "pca", 0, "title")
    assert len(clouds.axes) == 2 * (1 + base)
    assert len(clouds.axes[0].collections[0].get_offsets()) == streams * 5 * 24
    numbers = summary(gap, Sampling(frames=3, tokens=8))
    curves = [
        gap_plots.Curve(pair, kind, np.array(each["mean"]), np.array(each["standard_error"]))
        for pair, kinds in numbers["pairs"].items()
        for kind, each in kinds.items()
    ]
    lines = gap_plots.layer_plot(curves, "title").axes[0].lines
    assert len([line for line in lines if not line.get_label().startswith("_")]) == 2 * pairs
    json.dumps(numbers, allow_nan=False)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"model": "x", "pairs": 3}', '{"model": "x", "pairs": {"a-b": {"features": {"mean": [1]}}}}']
    + [
        json.dumps({"model": "x", "pairs": {"a-b": {"features": {"mean": mean, "standard_error": error}}}})
        for mean, error in [
            ([], None),
            (["q"], None),
            ([[1]], None),
            ([float("nan")], None),
            ([1, 2], [1]),
            ("1", None),
        ]
    ]
    + ["[" * 100_000],
)
def test_what_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "gap.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"gap\.json: not a report of a gap") as caught:
        read_curves([path])
    assert "\n" not in str(caught.value)


def test_blocks_of_this_package_begin_with_the_norm_that_is_listened_to():
    assert next(iter(dict(Block(dim=8, heads=2).named_children()))) == "norm1"
