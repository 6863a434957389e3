"""Video files and folders of images as streams: what comes out, and what bad input says."""

import logging
import struct
import threading

import cv2
import numpy as np
import pytest

from duotrack.errors import InputError
from duotrack.images import declared_size, read_raw
from duotrack.video.folder import image_files
from duotrack.video.source import hide_password, open_source, open_stream
from duotrack.video.stream import Frame, Stream, prefetched


def bgr(value: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_video_frames_are_rgb_in_order_with_times(make_video):
    with open_stream(make_video(count=10)) as stream:
        assert (stream.size, stream.fps, stream.length, stream.exact) == ((64, 48), 25.0, 10, True)
        frames = list(stream)
    assert [f.index for f in frames] == list(range(10))
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(10)])
    for frame in frames:
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert abs(int(frame.image[24, 8, 0]) - 8 * frame.index) <= 6  # red first
        assert frame.image[24, 60, 2] > 150  # blue last


def test_real_clip(shared_data):
    clip = shared_data / "single_modality_video" / "infrared" / "IR_DRONE_001.mp4"
    with open_source(None, clip) as source:
        assert (source.size, source.fps, source.length, source.live) == ((320, 256), 30.0, 301, False)
        assert "301 frames" in source.describe()
        assert sum(pair.available == ("aux",) for pair in source) == 301


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"hello\n" * 100, "is text, not a video"),
        ("list.m3u8", b"#EXTM3U\n/etc/passwd\n", "is text, not a video"),
        ("noise.mp4", bytes(range(256)) * 40, "cannot read"),
        ("one.png", b"\x89PNG\r\n\x1a\n", "single image"),
    ],
)
def test_files_that_are_no_video(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_source(path, None)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere.mp4", "does not exist"),
        ("ftp://host/clip.mp4", "cannot read ftp:// addresses"),
        ("", "rgb address is empty"),
        ("97", "cannot open this camera"),
        ("http://user:secret@127.0.0.1:1/", "cannot open this network stream"),
    ],
)
def test_addresses_that_lead_nowhere(address, message):
    with pytest.raises(InputError, match=message) as caught:
        open_source(address, None)
    assert "secret" not in str(caught.value)


def test_password_is_hidden():
    assert hide_password("rtsp://admin:pw@10.0.0.1:554/a@b") == "rtsp://10.0.0.1:554/a@b"
    assert hide_password("http://10.0.0.1/x") == "http://10.0.0.1/x"


def test_truncated_video_without_index_is_refused(make_video):
    path = make_video(count=40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # the index of an MP4 is at its end
    with pytest.raises(InputError, match=r"cannot read .*clip\.mp4"):
        open_source(path, None)


def cut_off(make_video):
    """An AVI file, whose header at the front goes on declaring all frames."""
    path = make_video("clip.avi", count=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


def test_video_truncated_in_the_middle_is_delivered_and_said(make_video, caplog):
    path = cut_off(make_video)
    with caplog.at_level(logging.WARNING), open_source(path, None) as source:
        assert source.length == 60
        count = sum(1 for _ in source)
    assert 0 < count < 60
    assert caplog.messages == [f"rgb clip.avi ended early: it declares 60 frames, got {count}; the file is truncated"]
    with open_source(path, None, truncated="error") as source, pytest.raises(InputError, match="ended early"):
        list(source)


def test_declared_and_delivered_differ(caplog):
    from duotrack.video.video import _watched

    def stream(exact, length, count):
        frames = (Frame(i, bgr(0), i / 10) for i in range(count))
        return Stream("clip", "video", (64, 48), 10.0, length, frames, lambda: None, exact)

    with caplog.at_level(logging.WARNING):
        assert len(list(_watched(stream(True, 10, 10), "error"))) == 10
        assert len(list(_watched(stream(False, 12, 10), "error"))) == 10  # an estimate may be off a little
        assert not caplog.messages
        assert len(list(_watched(stream(True, 12, 10), "deliver"))) == 10
        assert caplog.messages == ["clip ended early: it declares 12 frames, got 10; the file is truncated"]
        with pytest.raises(InputError, match="declares 100 frames, got 10"):
            list(_watched(stream(False, 100, 10), "error"))


def test_natural_order_and_suffixes(tmp_path):
    names = ["img10.png", "img2.PNG", "img1.jpg", "img3.TIFF", "IMG4.jpeg", "img5.bmp", "img6.tif"]
    for name in names:
        data = cv2.imencode("." + name.split(".")[1].lower(), bgr(9))[1]
        (tmp_path / name).write_bytes(data.tobytes())
    for other in ("notes.txt", ".img7.png"):
        (tmp_path / other).write_bytes(b"x")
    found = [path.name for path in image_files(tmp_path)]
    assert found == ["img1.jpg", "img2.PNG", "img3.TIFF", "IMG4.jpeg", "img5.bmp", "img6.tif", "img10.png"]
    with open_stream(tmp_path) as stream:
        assert all(frame.image is not None for frame in stream)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "junk"])
def test_corrupt_image_in_the_middle_is_missing(make_folder, caplog, suffix, damage):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    folder = make_folder("frames", [noise] * 4, suffix)
    victim = folder / f"img2{suffix}"
    data = victim.read_bytes()
    victim.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "junk": b"junk" * 99}[damage])
    with caplog.at_level(logging.WARNING), open_source(folder, None) as source:
        pairs = list(source)
    assert [pair.rgb is None for pair in pairs] == [False, False, True, False]
    assert pairs[2].notes == (f"rgb frames: corrupt image img2{suffix}, frame 2 counts as missing",)
    assert caplog.messages == list(pairs[2].notes)


@pytest.mark.parametrize("kind", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]])
def test_a_jpeg_damaged_inside_is_corrupt(tmp_path, kind, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise, kind)[1].tobytes()
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(whole + b"a camera's own data")
    assert read_raw(good).shape == (96, 128, 3)
    middle = len(whole) // 2
    bad.write_bytes(whole[:middle] + b"\xff\x42" * 50 + whole[middle + 100 :])  # decoders would fill it with grey
    assert read_raw(bad) is None
    assert capfd.readouterr().err == ""


def test_folders_without_usable_images(tmp_path):
    with pytest.raises(InputError, match=r"holds no images .* found nothing"):
        open_source(tmp_path, None)
    (tmp_path / "a.csv").write_text("1")
    with pytest.raises(InputError, match=r"found \.csv"):
        open_source(tmp_path, None)
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(InputError, match="none of the 1 images"):
        open_source(tmp_path, None)


def test_a_folder_with_a_number_for_a_name_is_no_camera(make_folder, tmp_path, monkeypatch):
    make_folder("0001", [bgr(1)])
    monkeypatch.chdir(tmp_path)
    with open_stream("0001") as stream:
        assert stream.kind == "folder of images"


def test_images_of_two_sizes(make_folder):
    folder = make_folder("frames", [bgr(1), bgr(2), bgr(3, 32, 24)])
    with open_source(folder, None) as source, pytest.raises(InputError, match=r"img2\.png is 32x24, .* 64x48"):
        list(source)


@pytest.mark.parametrize(
    ("image", "side", "said"),
    [
        (bgr(100), "rgb", None),
        (bgr(100)[..., 0], "rgb", "grey where colour is expected"),
        (bgr(100)[..., 0], "aux", None),
        (np.dstack([bgr(100), bgr(128)[..., :1]]), "rgb", "transparency"),
        (bgr(100).astype(np.uint16) * 256, "rgb", "16-bit colour"),
        (bgr(100)[..., 0].astype(np.uint16) * 256, "rgb", "16-bit grey"),
        (bgr(100)[..., 0].astype(np.uint16) * 256, "aux", "16-bit grey"),
    ],
)
def test_other_kinds_of_images_are_converted_and_said_once(make_folder, image, side, said):
    folder = make_folder("frames", [image] * 3)
    with open_source(**{"rgb": None, "aux": None, side: folder}) as source:
        pairs = list(source)
    for pair in pairs:
        out = getattr(pair, side)
        assert out.shape == (48, 64, 3)
        assert out.dtype == np.uint8
    assert [len(pair.notes) for pair in pairs] == [int(said is not None), 0, 0]
    assert said is None or said in pairs[0].notes[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("size", [(64, 48), (1, 1), (301, 7)])
def test_declared_size(suffix, size):
    data = cv2.imencode(suffix, bgr(5, *size))[1].tobytes()
    assert declared_size(data) == size
    assert all(declared_size(data[:n]) in (None, size) for n in range(0, len(data), 3))


def test_huge_image_is_refused_before_decoding(make_folder):
    folder = make_folder("frames", [bgr(1)] * 2)
    data = bytearray((folder / "img1.png").read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    (folder / "img1.png").write_bytes(data)
    with open_source(folder, None) as source, pytest.raises(InputError, match="60000x60000 pixels, more than 64 meg"):
        list(source)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_times_of_folders(make_folder, tmp_path, fps):
    folder = make_folder("frames", [bgr(i) for i in range(3)])
    with open_source(folder, None, fps=fps) as source:
        assert source.fps == fps
        assert [pair.time for pair in source] == ([None] * 3 if fps is None else pytest.approx([0, 0.1, 0.2]))


@pytest.mark.parametrize("fps", [0, -3, float("nan"), float("inf")])
def test_a_rate_that_is_none(make_folder, fps):
    with pytest.raises(InputError, match="frame rate"):
        open_source(make_folder("frames", [bgr(0)]), None, fps=fps)


def test_times_from_names(make_folder):
    folder = make_folder("frames", [bgr(i) for i in range(2)])
    (folder / "img0.png").rename(folder / "1305031102.175304.png")
    (folder / "img1.png").rename(folder / "1305031102.275304.png")
    with open_source(folder, None) as source:
        assert [pair.time for pair in source] == pytest.approx([0, 0.1], abs=1e-6)


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("duotrack")]


@pytest.mark.parametrize("take", [0, 1, 5, 30])
def test_prefetch_leaves_no_thread(make_video, take):
    with open_source(make_video(count=30), None, prefetch=3) as source:
        for _, _pair in zip(range(take), source, strict=False):
            pass
    assert decoding_threads() == []
    source.close()  # twice is once


def test_prefetch_releases_after_an_error_in_the_loop(make_video):
    def fail_at_once():
        with open_source(make_video(), make_video("b.mp4")) as source:
            for _pair in source:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_at_once()
    assert decoding_threads() == []


def test_prefetch_is_bounded_and_carries_errors():
    made = []
    reached = threading.Event()

    def frames():
        for index in range(100):
            if index == 6:
                raise OSError(5, "the disk broke")
            made.append(index)
            if index == 3:
                reached.set()
            yield Frame(index, bgr(index))

    closed = []
    inner = Stream("x", "video", (64, 48), None, None, frames(), lambda: closed.append(1))
    with prefetched(inner, depth=3) as stream:
        assert next(iter(stream)).index == 0
        assert reached.wait(10)
        assert len(made) == 4  # one handed out, three ahead
        with pytest.raises(OSError, match="the disk broke"):
            list(stream)
    assert made == list(range(6))
    assert closed == [1]
    assert decoding_threads() == []


def test_failing_second_source_closes_the_first(make_video, tmp_path):
    with pytest.raises(InputError):
        open_source(make_video(), tmp_path / "missing.mp4")
    assert decoding_threads() == []
