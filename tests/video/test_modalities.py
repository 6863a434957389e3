"""Depth and event sources: rendered as they are meant to be, and refused in one line where they are something else."""

import logging
from fractions import Fraction

import cv2
import numpy as np
import pytest

from duotrack.depth import colour_depth
from duotrack.errors import InputError
from duotrack.thermal16 import Thermal16Scaler
from duotrack.video.source import open_source, open_stream
from kinds import depth_map, event_picture


def video16(path, images, pixels="gray16le"):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width = images[0].shape
        stream.pix_fmt = pixels
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=pixels)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frames(address, **options):
    with open_source(None, address, **options) as source:
        return list(source)


@pytest.mark.parametrize("colours", ["bgr", "rgb"])
@pytest.mark.parametrize("form", ["png", "tiff", "video"])
def test_depth_of_16_bits_is_the_colour_map(make_folder, tmp_path, form, colours, caplog):
    caplog.set_level(logging.INFO)
    images = [depth_map(i) for i in range(3)]
    address = video16(tmp_path / "d.mkv", images) if form == "video" else make_folder("d", images, f".{form}")
    pairs = frames(address, modality="depth", depth_colours=colours)
    assert len(pairs) == 3
    for pair, depth in zip(pairs, images, strict=True):
        np.testing.assert_array_equal(pair.aux, colour_depth(depth, colours=colours))
        assert pair.notes == ()
    assert not any("percentiles" in message for message in caplog.messages)


def test_the_same_files_as_thermal_are_scaled_by_percentiles(make_folder):
    folder = make_folder("d", [depth_map(0)])
    (pair,) = frames(folder)
    np.testing.assert_array_equal(pair.aux[..., 0], Thermal16Scaler()(depth_map(0)))


def test_depth_frames_stand_for_themselves(make_folder):
    """The same frame gives the same picture whatever came before it."""
    images = [depth_map(0), depth_map(0) * 2, depth_map(0)]
    first, _, third = frames(make_folder("d", images), modality="depth")
    np.testing.assert_array_equal(first.aux, third.aux)


def test_rgb_stays_what_it_is(make_folder):
    colour = make_folder("c", [event_picture(0)])
    with open_source(colour, make_folder("d", [depth_map(0)]), modality="depth") as source:
        (pair,) = source
    np.testing.assert_array_equal(pair.rgb, event_picture(0)[:, :, ::-1])


def test_frames_without_depth_count_as_missing(make_folder, caplog):
    empty = np.zeros_like(depth_map(0))
    pairs = frames(make_folder("d", [depth_map(0), empty, depth_map(2), empty]), modality="depth")
    assert [pair.available for pair in pairs] == [("aux",), (), ("aux",), ()]
    assert "nothing was measured (all zero), the frame counts as missing" in pairs[1].notes[0]
    assert pairs[1].notes == pairs[3].notes
    assert len([message for message in caplog.messages if "all zero" in message]) == 1  # in the log once


def test_a_remark_on_holes_comes_once(make_folder, caplog):
    holes = np.where(np.arange(96) < 60, 0, depth_map(0)).astype(np.uint16)
    pairs = frames(make_folder("d", [holes, holes]), modality="depth")
    assert [len(pair.notes) for pair in pairs] == [1, 0]
    assert "more than half of the frame are holes" in caplog.text


METRES = depth_map(0).astype(np.float32) / 1000
WRONG_FOLDERS = {
    "metres": (
        METRES,
        ".tiff",
        "pixels are float32, depth comes as 16-bit integers in millimetres; if these are metres",
    ),
    "8 bits": ((depth_map(0) >> 8).astype(np.uint8), ".png", "pixels have 8 bits, depth comes as 16-bit integers"),
    "a rendered map": (event_picture(0), ".jpg", "pixels have 8 bits"),
    "whole metres": (
        np.maximum(depth_map(0) // 1000, 1),
        ".png",
        "no pixel is farther than 4, .* multiply them by 1000",
    ),
}


@pytest.mark.parametrize("kind", WRONG_FOLDERS)
def test_folders_that_are_no_depth_are_refused_when_opened(make_folder, kind):
    image, suffix, words = WRONG_FOLDERS[kind]
    folder = make_folder("d", [image], suffix)
    with pytest.raises(InputError, match=f"aux d: {words}") as caught:
        open_source(None, folder, modality="depth")
    assert "\n" not in str(caught.value)


def test_a_frame_that_is_no_depth_in_the_middle(make_folder):
    folder = make_folder("d", [depth_map(0), (depth_map(1) >> 8).astype(np.uint8)])
    with pytest.raises(InputError, match="aux d: pixels have 8 bits"):
        frames(folder, modality="depth")


def test_depth_video_of_8_bits(make_video):
    with pytest.raises(InputError, match=r"aux clip\.mp4: pixels have 8 bits"):
        open_source(None, make_video(), modality="depth")


@pytest.mark.parametrize("pixels", ["gray10le", "gray12le"])
def test_depth_video_of_few_bits_would_be_stretched(tmp_path, pixels):
    path = video16(tmp_path / "d.mkv", [depth_map(0) >> 4], pixels)
    with pytest.raises(InputError, match=f"pixels are {pixels}; depth comes as 16 bits in millimetres"):
        open_source(None, path, modality="depth")


@pytest.mark.parametrize("address", ["0", "rtsp://user:secret@127.0.0.1:1/depth"])
def test_live_depth_is_refused_before_it_is_opened(address):
    with pytest.raises(InputError, match="depth cannot come from a camera number or an address") as caught:
        open_source(None, address, modality="depth")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".bmp", ".png"])
def test_event_pictures_are_turned_to_rgb(make_folder, suffix):
    (pair,) = frames(make_folder("e", [event_picture(0)], suffix), modality="event")
    np.testing.assert_array_equal(pair.aux, event_picture(0)[:, :, ::-1])


def test_one_channel_of_events_is_used_three_times(make_folder, caplog):
    grey = cv2.cvtColor(event_picture(0), cv2.COLOR_BGR2GRAY)
    (pair,) = frames(make_folder("e", [grey], ".bmp"), modality="event")
    np.testing.assert_array_equal(pair.aux, np.stack([grey] * 3, axis=2))
    assert pair.notes == ()
    assert caplog.text == ""


def test_16_bit_events_are_no_pictures(make_folder):
    with pytest.raises(InputError, match="aux e: pixels have 16 bits; event frames are pictures of 8 bits"):
        open_source(None, make_folder("e", [depth_map(0)]), modality="event")


@pytest.mark.parametrize("modality", ["depth", "event"])
def test_another_length_is_refused(make_folder, modality):
    image = {"depth": depth_map, "event": event_picture}[modality](0)
    aux, rgb = make_folder("x", [image] * 3), make_folder("c", [event_picture(0)] * 4)
    with pytest.raises(InputError, match="rgb has 4 frames and aux 3; cut them to the same frames"):
        open_source(rgb, aux, modality=modality)


def test_one_stream(make_folder):
    with open_stream(make_folder("d", [depth_map(0)]), kind="depth") as stream:
        np.testing.assert_array_equal(next(iter(stream)).image, colour_depth(depth_map(0)))
