"""16-bit thermal: stable scaling to 8 bits, and 16-bit video."""

import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from duotrack.errors import InputError
from duotrack.thermal16 import Thermal16, Thermal16Scaler
from duotrack.video.source import open_source


def ramp(height: int = 48, width: int = 64) -> np.ndarray:
    """A scene from 30000 to 34000 counts."""
    return np.linspace(30000, 34000, height * width).reshape(height, width).astype(np.uint16)


def scaled(images, **options):
    scaler = Thermal16Scaler(Thermal16(**options))
    return [scaler(image) for image in images]


def test_the_scene_spans_eight_bits():
    out = scaled([ramp()])[0]
    assert out.dtype == np.uint8
    assert (out.min(), out.max()) == (0, 255)
    assert np.all(np.diff(out.ravel().astype(int)) >= 0)
    assert abs(int(out[24, 0]) - 128) <= 2


@pytest.mark.parametrize(
    ("disturb", "bound"),
    [
        ("hot spot", 2),  # a tenth of a percent of the pixels at full scale: within the percentiles
        ("hot region", 13),  # a twentieth of the picture at full scale: limited by max_step
        ("shutter", 13),  # a whole frame of one value
    ],
)
def test_no_flicker(disturb, bound):
    images = [ramp() for _ in range(9)]
    if disturb == "hot spot":
        images[4][0, :3] = 65535
    elif disturb == "hot region":
        images[4][:6, :26] = 65535
    else:
        images[4][:] = 20000
    steady = scaled(images)
    probe = [int(image[30, 40]) for i, image in enumerate(steady) if i != 4]
    assert np.abs(np.diff(probe)).max() <= bound


def test_a_slow_drift_is_followed():
    images = [ramp() + np.uint16(20 * i) for i in range(200)]
    out = scaled(images)
    assert 100 < int(out[-1][24, 0]) < 190
    means = np.array([image.mean() for image in out])
    assert np.abs(np.diff(means)).max() < 2


def test_an_even_scene_is_not_blown_up():
    noise = np.random.default_rng(0).integers(30000, 30004, (48, 64)).astype(np.uint16)
    assert np.ptp(scaled([noise])[0]) <= 30
    assert scaled([np.full((4, 4), 7, np.uint16)])[0].tolist() == [[128] * 4] * 4


def test_deterministic():
    images = [np.random.default_rng(i).integers(0, 65536, (20, 30)).astype(np.uint16) for i in range(5)]
    assert all(np.array_equal(a, b) for a, b in zip(scaled(images), scaled(images), strict=True))


@given(st.integers(0, 65535), st.integers(0, 65535), st.floats(0, 0.99))
def test_order_of_values_is_kept(a, b, momentum):
    image = np.array([[a, b]], np.uint16)
    out = scaled([image, image], momentum=momentum)[1]
    assert (int(out[0, 0]) - int(out[0, 1])) * (a - b) >= 0


@pytest.mark.parametrize("options", [{"low": 60}, {"momentum": 1.0}, {"max_step": 0}, {"hihg": 3}])
def test_options_are_checked(options):
    with pytest.raises(ValidationError):
        Thermal16(**options)


def grey16_video(path, count=6):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray16le"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(ramp() + np.uint16(index), format="gray16le")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_16_bit_video(tmp_path):
    path = grey16_video(tmp_path / "thermal.mkv")
    with open_source(None, path) as source:
        assert (source.size, source.fps) == ((64, 48), 25.0)
        pairs = list(source)
    assert len(pairs) == 6
    assert [pair.time for pair in pairs] == pytest.approx([i / 25 for i in range(6)])
    assert len(np.unique(pairs[0].aux)) == 256  # a scene of 4000 counts in 65536 would have 16 levels if cut to 8 bits
    assert np.array_equal(pairs[0].aux[..., 0], scaled([ramp()])[0])
    assert "16-bit grey" in pairs[0].notes[0]
    assert not any(pair.notes for pair in pairs[1:])


def test_16_bit_video_truncated_in_the_middle(tmp_path, caplog):
    path = grey16_video(tmp_path / "thermal.mkv", count=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with open_source(None, path) as source:
        count = sum(1 for _ in source)
    assert 0 < count < 100
    assert any("ended" in message for message in caplog.messages)


def test_16_bit_video_without_pyav(tmp_path, monkeypatch):
    path = grey16_video(tmp_path / "thermal.mkv")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'duotrack\[video16\]'"):
        open_source(None, path)


def test_16_bit_folder_matches_scaler(make_folder):
    images = [ramp() + np.uint16(50 * i) for i in range(4)]
    folder = make_folder("thermal", images, ".tiff")
    assert cv2.imread(str(folder / "img0.tiff"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    with open_source(None, folder, thermal=Thermal16(momentum=0.5)) as source:
        got = [pair.aux[..., 0] for pair in source]
    assert all(np.array_equal(a, b) for a, b in zip(got, scaled(images, momentum=0.5), strict=True))
