"""What is drawn: overlay panels, first frames with a grid, strips."""

import cv2
import numpy as np
import pytest

from duotrack.errors import InputError
from duotrack.frames import FramePair
from duotrack.video.overlay import MAX_WIDTH, STATE_COLOURS, draw_pair, draw_panel, zoom_factor
from duotrack.video.pictures import draw_strip, first_frame_images


def grey(width, height):
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize(
    ("size", "panels", "factor"),
    [
        ((320, 256), 2, 2),
        ((640, 512), 2, 1),
        ((1920, 1080), 2, 1),
        ((3840, 2160), 2, 0.5),
        ((64, 48), 1, 10),
        ((3000, 10), 1, 1),
    ],
)
def test_zoom(size, panels, factor):
    assert zoom_factor(size, panels) == factor
    assert zoom_factor(size, panels) * size[0] * panels <= MAX_WIDTH


@pytest.mark.parametrize("state", ["tracking", "uncertain", "lost"])
@pytest.mark.parametrize("size", [(320, 256), (1920, 1080), (3840, 2160)])
def test_box_is_drawn_around_the_object_in_the_colour_of_its_state(result, size, state):
    box = tuple(np.array([0.4, 0.4, 0.2, 0.2]) * np.tile(size, 2))
    factor = zoom_factor(size)
    panel = draw_panel(grey(*size), [result(box, state=state)], size=size, factor=factor, title="rgb")
    coloured = np.abs(panel.astype(int) - STATE_COLOURS[state]).max(axis=2) < 40
    middle = round((box[1] + box[3] / 2) * factor)
    columns = np.flatnonzero(coloured[middle])
    left, right = box[0] * factor, (box[0] + box[2]) * factor
    slack = 5 + panel.shape[0] / 180  # lines grow with the picture
    assert left - slack <= columns.min() <= left + 1
    assert right - 1 <= columns.max() <= right + slack
    inside = panel[middle - 5 : middle + 5, round(left) + 8 : round(right) - 8]
    assert np.all(inside == 128)  # nothing hides the object


@pytest.mark.parametrize(
    "box",
    [(-500, -500, 10, 10), (1e9, 1e9, 1e9, 1e9), (0, 0, 0, 0), (np.nan, 0, 1, 1), (310, 0, 50, 20), (-5, 250, 9, 9)],
)
def test_boxes_beyond_the_frame_do_no_harm(result, box):
    panel = draw_panel(grey(320, 256), [result(box)], size=(320, 256), factor=2, title="rgb")
    assert panel.shape == (512, 640, 3)


def test_missing_modality_is_a_dark_panel(result):
    picture = draw_pair(FramePair(7, grey(64, 48), None), [result()], size=(64, 48), sides=("rgb", "aux"))
    left, right = np.split(picture, 2, axis=1)
    assert np.median(left) == 128
    assert np.median(right) < 40
    assert right.max() > 100  # and says so
    alone = draw_pair(FramePair(7, grey(64, 48), None), [result()], size=(64, 48), sides=("rgb",))
    assert alone.shape[1] == left.shape[1]


@pytest.mark.parametrize("size", [(65, 49), (640, 513), (1921, 1081)])
def test_pictures_have_even_sides(result, size):
    picture = draw_pair(FramePair(0, grey(*size), None), [result()] * 2, size=size, sides=("rgb",))
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0


@pytest.mark.parametrize("size", [(64, 48), (320, 256), (641, 513), (1920, 1080)])
def test_first_frame_images(tmp_path, size):
    paths = first_frame_images(FramePair(0, grey(*size), grey(*size)), tmp_path / "first")
    assert [path.name for path in paths] == ["first_frame_rgb.png", "first_frame_aux.png"]
    sheet = cv2.imread(str(paths[0]))
    assert sheet.shape[1] >= size[0]
    assert sheet.shape[0] >= size[1]
    assert (sheet == 245).any()  # paper for the labels
    assert (sheet == 128).sum() > size[0] * size[1]  # most of the picture is left alone


def test_first_frame_of_one_modality(tmp_path):
    assert [p.name for p in first_frame_images(FramePair(0, None, grey(64, 48)), tmp_path)] == ["first_frame_aux.png"]
    with pytest.raises(InputError, match="has no image"):
        first_frame_images(FramePair(0, None, None), tmp_path)


@pytest.mark.parametrize(("frames", "count", "cells"), [(10, 4, 4), (3, 6, 3), (1, 6, 1)])
def test_strip(tmp_path, result, frames, count, cells):
    pairs = [FramePair(i, grey(320, 256), None) for i in range(frames)]
    path = draw_strip(pairs, [[result()]] * frames, tmp_path / "strip.png", count=count)
    assert cv2.imread(str(path)).shape == (512 + 4, cells * (640 + 4), 3)
    with pytest.raises(ValueError, match="results"):
        draw_strip(pairs, [], path)
    with pytest.raises(InputError, match="no frame to draw"):
        draw_strip([FramePair(0, None, None)], [[result()]], path)


@pytest.mark.parametrize("words", ["black, counts as missing", "corrupt image " + "0" * 120 + ".jpg"])
def test_a_missing_modality_says_why(words):
    plain = draw_pair(FramePair(7, grey(320, 256), None), [], size=(320, 256), sides=("rgb", "aux"))
    notes = (f"aux thermal.mp4: {words}", "rgb: a word on the other one")
    picture = draw_pair(FramePair(7, grey(320, 256), None, notes=notes), [], size=(320, 256), sides=("rgb", "aux"))
    changed = np.argwhere((plain != picture).any(axis=2))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    half = picture.shape[1] // 2
    assert half < left < right < picture.shape[1] - 10  # on the aux panel, and all of it
    assert picture.shape[0] / 2 < top < bottom < 0.65 * picture.shape[0]  # below "no signal"
