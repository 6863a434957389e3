"""Pictures as a video or a folder: whole or not at all, nothing of others touched."""

import cv2
import numpy as np
import pytest

from duotrack.errors import InputError
from duotrack.images import read_raw
from duotrack.video.picture_sinks import open_picture_sink

PICTURE = np.random.default_rng(0).integers(0, 256, (31, 33, 3)).astype(np.uint8)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_and_fail(path, count):
    with open_picture_sink(path, fps=25, overwrite=True) as sink:
        for index in range(count):
            sink.write(index, PICTURE)
        raise RuntimeError


def test_folder(tmp_path):
    out = tmp_path / "deep" / "out"
    with open_picture_sink(out, fps=None) as sink:
        sink.write(3, PICTURE)
        sink.write(12, PICTURE[::-1])
        assert all(name.startswith(".") for name in names(out))
    assert names(out) == ["fused_000003.png", "fused_000012.png"]
    assert np.array_equal(cv2.cvtColor(read_raw(out / "fused_000003.png"), cv2.COLOR_BGR2RGB), PICTURE)


def test_video_of_odd_sides(tmp_path):
    out = tmp_path / "deep" / "out.mp4"
    with open_picture_sink(out, fps=12.5) as sink:
        for index in range(5):
            sink.write(index, PICTURE)
        assert not out.exists()
    video = cv2.VideoCapture(str(out))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == 34
    assert names(out.parent) == ["out.mp4"]


@pytest.mark.parametrize("name", ["out", "out.mp4"])
@pytest.mark.parametrize("written", [0, 2])
def test_an_error_leaves_nothing(tmp_path, name, written):
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path / "deep" / name, written)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_no_frame_at_all(tmp_path, name):
    with pytest.raises(InputError, match="no frame came"), open_picture_sink(tmp_path / "deep" / name, fps=25):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_overwriting_is_asked_for_and_touches_nothing_else(tmp_path, name):
    out = tmp_path / name
    for index in (0, 1):
        with open_picture_sink(out, fps=25, overwrite=bool(index)) as sink:
            sink.write(index, PICTURE)
            if index and out.is_dir():
                (out / "notes.txt").write_text("mine")
                (out / "fused_by_me.png").write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        open_picture_sink(out, fps=25)
    if out.is_dir():
        assert names(out) == ["fused_000001.png", "fused_by_me.png", "notes.txt"]
    with pytest.raises(RuntimeError):
        write_and_fail(out, 1)
    assert out.is_file() or "fused_000001.png" in names(out)


@pytest.mark.parametrize("name", ["out.avi", "out.png", "OUT.MKV"])
def test_kinds_of_file_that_are_not_written(tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.mp4, or a folder"):
        open_picture_sink(tmp_path / name, fps=25)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        open_picture_sink(tmp_path / "taken", fps=25)
    with pytest.raises(InputError, match="cannot write"), open_picture_sink(tmp_path / "taken" / "out", fps=25):
        pass
    assert (tmp_path / "taken").read_text() == "mine"
