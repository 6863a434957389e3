"""Result files: what they hold, and that they appear whole or not at all."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.errors import InputError
from duotrack.frames import FramePair, TrackResult
from duotrack.video import encode, sinks
from duotrack.video.sinks import BoxesWriter, Sinks, open_sinks, results_in
from duotrack.video.source import open_source

needs_h264 = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="PyAV is not installed, no H.264 encoder"
)


def pairs(count=5, size=(64, 48)):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    return [FramePair(i, image, None if i == 2 else image, i / 25) for i in range(count)]


def track(folder, result, count=5, size=(64, 48), objects=1, **options):
    with Sinks(folder, size=size, objects=objects, **options) as out:
        for pair in pairs(count, size):
            out.write(pair, [result(score=0.5 + 0.1 * n) for n in range(objects)], 0.01)
    return out


def test_files_of_a_run(tmp_path, make_video, result):
    clip = make_video(count=6)
    with open_source(clip, clip) as source, open_sinks(tmp_path / "new" / "out", source) as out:
        for pair in source:
            out.write(pair, [result(box=(1, 2, 3.00004, 4 + pair.index))], 0.25)
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == [
        "boxes.txt",
        "overlay.mp4",
        "track.jsonl",
    ]
    assert out.paths["boxes"].read_text().splitlines()[5] == "1.0000,2.0000,3.0000,9.0000"
    lines = [json.loads(line) for line in out.paths["track"].read_text().splitlines()]
    assert len(lines) == 6
    assert lines[3] == {
        "frame": 3,
        "box": [1, 2, 3, 7],
        "score": 0.9,
        "state": "tracking",
        "available": ["rgb", "aux"],
        "time": 0.12,
        "seconds": 0.25,
    }
    video = cv2.VideoCapture(str(out.paths["overlay"]))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (6, 25)
    assert (out.paths["boxes"].stat().st_mode & 0o777) == (out.paths["overlay"].stat().st_mode & 0o777)


@given(st.lists(st.floats(-1e5, 1e5), min_size=4, max_size=4))
def test_boxes_round_trip(tmp_path_factory, box):
    path = tmp_path_factory.mktemp("boxes") / "boxes.txt"
    writer = BoxesWriter(path)
    writer.write(pairs(1)[0], [TrackResult(np.array(box), 1.0, "tracking", ("rgb",))], None)
    writer.finish()
    assert np.loadtxt(path, delimiter=",") == pytest.approx(box, abs=1e-4)


def test_several_objects(tmp_path, result):
    out = track(tmp_path / "out", result, objects=3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "boxes_1.txt",
        "boxes_2.txt",
        "boxes_3.txt",
        "overlay.mp4",
        "track.jsonl",
    ]
    lines = [json.loads(line) for line in out.paths["track"].read_text().splitlines()]
    assert [(line["frame"], line["object"]) for line in lines[:4]] == [(0, 1), (0, 2), (0, 3), (1, 1)]
    with (
        pytest.raises(ValueError, match="1 results for 3 objects"),
        Sinks(tmp_path / "b", size=(64, 48), objects=3) as out,
    ):
        out.write(pairs(1)[0], [result()])


def test_notes_and_unknown_times(tmp_path, result):
    with Sinks(tmp_path / "out", size=(64, 48), overlay=False) as out:
        out.write(FramePair(0, None, None, None, ("aux: gone",)), [result()])
    line = json.loads(out.paths["track"].read_text())
    assert (line["time"], line["seconds"], line["notes"]) == (None, None, ["aux: gone"])


def test_old_results_are_not_lost(tmp_path, result):
    folder = tmp_path / "out"
    track(folder, result, objects=2)
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"already holds results \(boxes_1\.txt, "):
        track(folder, result)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ZeroDivisionError), Sinks(folder, size=(64, 48), overwrite=True):
        _ = 1 / 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    track(folder, result, overwrite=True)
    assert [path.name for path in results_in(folder)] == ["boxes.txt", "overlay.mp4", "track.jsonl"]
    assert (folder / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("frames", [0, 3])
def test_an_error_leaves_nothing(tmp_path, result, frames):
    def fail_on_the_way():
        with Sinks(tmp_path / "a" / "b", size=(64, 48)) as out:
            for pair in pairs(frames):
                out.write(pair, [result()])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_on_the_way()
    assert list(tmp_path.iterdir()) == []


def test_no_frames(tmp_path):
    with pytest.raises(InputError, match="no frame came"), Sinks(tmp_path / "out", size=(64, 48)):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/out"])
def test_folder_that_cannot_be(tmp_path, result, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        track(tmp_path / place, result)


@pytest.fixture
def no_av(monkeypatch):
    monkeypatch.setattr(encode.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (31, 17), (320, 257), (2001, 501)])
@pytest.mark.parametrize("sides", [("rgb",), ("rgb", "aux")])
@pytest.mark.parametrize("av", [pytest.param(True, marks=needs_h264), False])
def test_overlay_of_any_size_can_be_read(tmp_path, result, size, sides, av, request):
    if not av:
        request.getfixturevalue("no_av")
    out = track(tmp_path / "out", result, count=2, size=size, sides=sides, fps=29.97)
    video = cv2.VideoCapture(str(out.paths["overlay"]))
    width, height = video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)
    assert width % 2 == height % 2 == 0
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, abs=0.01)
    frames = [video.read()[0] for _ in range(3)]
    assert frames == [True, True, False]
    assert int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (
        (b"avc1", b"h264") if av else (b"FMP4", b"mp4v")
    )


class Full:
    """A text file on a full disk."""

    def __init__(self, path: Path, when: str) -> None:
        self._file, self._when = path.open("w"), when

    def write(self, text: str) -> None:
        self._fail("write")

    def flush(self) -> None:
        self._fail("flush")

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def _fail(self, what: str) -> None:
        if what == self._when:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("when", ["write", "flush"])
def test_full_disk_on_write_or_flush(tmp_path, result, monkeypatch, when):
    class Jsonl(sinks.JsonlWriter):
        def __init__(self, path: Path, *, objects: int = 1) -> None:
            super().__init__(path, objects=objects)
            self._file.close()
            self._file = Full(path, when)

    monkeypatch.setattr(sinks, "JsonlWriter", Jsonl)
    with pytest.raises(OSError, match="No space left"):
        track(tmp_path / "out", result)
    assert list(tmp_path.iterdir()) == []


def test_opencv_writer_that_fails_silently(tmp_path, result, no_av, monkeypatch):
    class Dud:
        def __init__(self, *args):
            pass

        def isOpened(self):
            return True

        def write(self, image):
            pass

        def release(self):
            pass

        fourcc = staticmethod(cv2.VideoWriter.fourcc)

    monkeypatch.setattr(encode.cv2, "VideoWriter", Dud)
    with pytest.raises(OSError, match="0 of 5 frames arrived"):
        track(tmp_path / "out", result)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting a small file system takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("av", [pytest.param(True, marks=needs_h264), False])
def test_disk_that_is_truly_full(tiny_disk, result, av, request):
    if not av:
        request.getfixturevalue("no_av")
    noise = np.random.default_rng(0)

    def fill():
        with Sinks(tiny_disk / "out", size=(320, 256)) as out:
            for index in range(40):
                image = noise.integers(0, 255, (256, 320, 3), np.uint8)
                out.write(FramePair(index, image, image), [result()])

    with pytest.raises(OSError) as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    assert list(tiny_disk.iterdir()) == []
