"""Speed: what is counted, how rounds become figures, and a whole measurement."""

import mmap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from duotrack.errors import InputError
from duotrack.evaluation import matmul
from duotrack.evaluation.speed import Spread, clip_of, compared, measure, report_of, spread
from duotrack.evaluation.stopwatch import (
    Clip,
    Configuration,
    Round,
    count_flops,
    counted,
    device_of,
    measure_round,
    memory_peak,
    ready,
    restart_memory_peak,
)
from duotrack.models.zoo import MODELS

TINY = Configuration(model="ckd-tiny", device="cpu").settled()


def made_round(**seconds: float) -> Round:
    frame = seconds.pop("frame")
    return Round(stages={name: [value, value, 3 * value] for name, value in seconds.items()}, frame=frame)


ROUNDS = [
    made_round(decode=0.001, crop=0.002, network=0.05, post=0.0005, frame=0.06),
    made_round(decode=0.001, crop=0.002, network=0.10, post=0.0005, frame=0.11),  # the machine was half as fast
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5.0], (5, 5, 5)), ([1.0, 2.0, 3.0, 4.0, 5.0], (3, 2, 4)), ([4.0, 0.0], (2, 1, 3))],
)
def test_spread_is_median_and_quartiles(values, expected):
    assert spread(values) == Spread(*expected)
    assert spread(values).width == expected[2] - expected[1]


def test_rounds_become_a_report():
    peaks = [{"torch a": 4e9, "openvino a": 1e10}, {"torch a": 8e9, "openvino a": 5e9}]
    report = report_of(TINY, "cpu", ROUNDS, flops=10**8, peaks=peaks, memory={"resident": 500.0})
    assert report.stages["crop"].median == pytest.approx(2)
    assert report.frame.median == pytest.approx(85)
    assert report.fps == pytest.approx(1000 / 85)
    assert report.flops_per_second == pytest.approx(1e8 / 0.075)
    assert report.peak_by == "openvino a"
    assert report.peak_flops == pytest.approx(7.5e9)
    assert report.peak_share == pytest.approx(0.2)  # of the same round, so the slow round does not count double


def test_a_report_without_products_has_no_share():
    report = report_of(TINY, "cpu", ROUNDS, flops=10**8, peaks=[], memory={"resident": 500.0})
    written = report.as_dict()
    assert written["peak_share"] is None
    assert written["peak_gflops"] is None
    assert written["peak_memory_mb"] == 500
    assert written["stages"]["network"]["median_ms"] == pytest.approx(75, rel=0.4)
    assert {written[name] for name in ("model", "backend", "precision", "device")} == {
        "ckd-tiny",
        "torch",
        "fp32",
        "cpu",
    }


def test_configurations_are_compared_round_by_round():
    twice = [made_round(network=r.stages["network"][0] / 2, frame=r.frame / 3) for r in ROUNDS]
    comparison = compared(ROUNDS, twice)
    for each, factor in ((comparison.network, 2), (comparison.frame, 3)):
        assert (each.median, each.q1, each.q3) == pytest.approx((factor,) * 3)


def test_products_and_attention_are_counted():
    net = nn.Linear(6, 5)
    q = torch.randn(1, 2, 7, 4)
    with torch.inference_mode():
        assert counted(lambda: net(torch.randn(3, 6))) == 2 * 3 * 6 * 5
        assert counted(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * 2 * (2 * 7 * 7 * 4)


@pytest.mark.parametrize(("elimination", "gmac"), [("none", 61.53), ("mce", 44.98)])
def test_the_base_model_counts_what_the_specification_counts(elimination, gmac):
    """Multiply-accumulates of a frame (docs/specs/ckd.md, section 9)."""
    with torch.device("meta"):
        net = MODELS["ckd-base"].build(elimination=elimination).eval()
        images = [torch.empty(1, 3, side, side) for side in (128, 256)]
    with torch.inference_mode():
        flops = counted(lambda: net(template=(images[0],) * 2, search=(images[1],) * 2))
    assert flops / 2e9 == pytest.approx(gmac, abs=0.01)


@pytest.fixture
def clips(tmp_path):
    with clip_of([], size=(160, 128), modalities=2, frames=4) as clip:
        yield clip


def test_a_round_times_every_stage_of_every_frame(clips):
    measured = measure_round(TINY, clips)
    assert {name: len(times) for name, times in measured.stages.items()} == dict.fromkeys(
        ("decode", "crop", "network", "post"), 3
    )
    assert all(value > 0 for times in measured.stages.values() for value in times)
    assert measured.frame > 0
    assert ready(TINY, clips) is ready(TINY, clips), "loaded once a process"
    assert memory_peak(TINY, clips)["resident"] > 50


def test_two_modalities_take_more_than_one(clips):
    one = Clip(rgb=clips.rgb, aux=None, box=clips.box, frames=4)
    assert 1.4 < count_flops(TINY.eager(), clips) / count_flops(TINY.eager(), one) < 2.1


def test_a_single_frame_is_too_few(tmp_path):
    with clip_of([], size=(64, 64), modalities=1, frames=1) as clip, pytest.raises(InputError, match="second frame"):
        measure_round(TINY, clip)


def test_a_users_video_is_measured(clips):
    assert clips.rgb is not None
    with clip_of([clips.rgb], size=(640, 512), modalities=2, frames=3) as clip:
        assert (clip.rgb, clip.aux) == (clips.rgb, clips.rgb)
        assert clip.box == pytest.approx((72, 57.6, 16, 12.8))
    with (
        pytest.raises(InputError, match="modalities"),
        clip_of([Path("a"), Path("b")], size=(64, 64), modalities=1, frames=3),
    ):
        pass


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_the_memory_peak_counts_from_where_it_is_restarted(clips):
    def peak() -> float:
        return memory_peak(TINY, clips)["resident"]

    ready(TINY, clips)
    with mmap.mmap(-1, 300_000_000) as held:  # not the allocator's: it may keep what is freed
        for _ in range(300):
            held.write(bytes(1_000_000))
        high = peak()
    restart_memory_peak()
    assert peak() < high - 200


@pytest.mark.parametrize(("precision", "libraries"), [("fp32", {"torch"}), ("bf16", {"torch"}), ("int8", set())])
def test_matrix_products_of_each_library(precision, libraries, monkeypatch):
    monkeypatch.setattr(matmul, "SHAPES", ((8, 16, 32),))
    monkeypatch.setattr(matmul, "SPAN", 0.0)
    matmul._products.cache_clear()
    try:
        figures = matmul.measure_peak(precision)
    finally:
        matmul._products.cache_clear()
    assert all(value > 0 for value in figures.values())
    assert libraries <= {name.split()[0] for name in figures}
    assert all(name.endswith("8x16x32") for name in figures)


@pytest.mark.slow
def test_a_configuration_that_cannot_be_loaded_is_left_out(clips, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    bad = Configuration(model="ckd-tiny", backend="openvino", precision="int8")
    told = []
    reports, comparisons = measure(
        [TINY, bad],
        clips,
        rounds=1,
        peak=False,
        probe=device_of,
        refused=lambda each, error: told.append((each.precision, str(error))),
    )
    assert [report.configuration for report in reports] == [TINY]
    assert (reports[0].probed, comparisons) == ("cpu", [])
    assert [precision for precision, _ in told] == ["int8"]
    assert "int8" in told[0][1]


def test_a_frame_that_cannot_be_read_is_left_out_of_the_stages(tmp_path):
    for index in range(5):
        picture = np.full((64, 64, 3), 40 * index, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
    (tmp_path / "2.png").write_bytes(b"no picture")
    measured = measure_round(TINY, Clip(rgb=tmp_path, aux=None, box=(20.0, 20.0, 20.0, 20.0), frames=5))
    assert {len(times) for times in measured.stages.values()} == {3}
