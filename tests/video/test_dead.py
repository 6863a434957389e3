"""Dead frames: what counts as black, saturated, of one tone, frozen; what must not; folders with gaps; masks."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.errors import InputError
from duotrack.frames import FramePair
from duotrack.video import open_source
from duotrack.video.dead import Dead, DeadFrames, without_dead
from duotrack.video.folder import joint_numbering, numbering
from duotrack.video.masked import masked

SIZE = (120, 160)
TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8), (0, 0), 6)
TEXTURE = cv2.normalize(TEXTURE, None, 20, 235, cv2.NORM_MINMAX)


def still(seed: int | None = None, sigma: float = 3.0, at: int = 0) -> np.ndarray:
    """A view of a rich scene, `at` pixels along it, with sensor noise where a seed is given."""
    view = np.repeat(TEXTURE[100 : 100 + SIZE[0], at : at + SIZE[1], None], 3, axis=2).astype(np.float64)
    if seed is not None:
        view += np.random.default_rng(seed).normal(0, sigma, view.shape)
    return np.clip(view, 0, 255).astype(np.uint8)


def even(level: int | tuple[int, int, int], seed: int | None = None, spread: int = 0) -> np.ndarray:
    image = np.full((*SIZE, 3), level, np.int64)
    if seed is not None:
        image += np.random.default_rng(seed).integers(0, spread + 1, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def with_spot(image: np.ndarray, level: int, side: int) -> np.ndarray:
    image = image.copy()
    image[50 : 50 + side, 70 : 70 + side] = level
    return image


ALONE = [
    (even(0), "black"),
    (even(0, 1, 12), "black"),  # noise of a covered sensor
    (even(255), "saturated"),
    (even(250, 1, 5), "saturated"),
    (even(128), "one tone"),
    (even((0, 0, 255)), "one tone"),  # a blue screen
    (even(90, 1, 3), "one tone"),
    (still(), None),
    (still(1), None),
    (with_spot(even(0), 60, 4), None),  # a lamp at night
    (with_spot(even(255), 90, 4), None),  # a bird before a burnt-out sky
    (with_spot(even(120), 100, 4), None),  # a warm spot in an even scene
    (even(120, 1, 12), None),  # an even scene with the noise of a living sensor
    ((still(1) // 8).astype(np.uint8), None),  # night
]


@pytest.mark.parametrize(("image", "reason"), ALONE)
def test_images_judged_by_themselves(image, reason):
    assert DeadFrames()(image, still(1)) == (reason, None)
    assert DeadFrames()(None, image) == (None, reason)


def test_stray_pixels_are_for_large_images():
    large = np.zeros((512, 640, 3), np.uint8)
    large[100, 100:106] = 255
    assert DeadFrames()(large, None) == ("black", None)
    large[101, 100:106] = 255
    assert DeadFrames()(large, None) == (None, None)


def freeze(judge: DeadFrames, frames: int, *, moving, frozen) -> list[str | None]:
    """What is said of the aux side, frame by frame."""
    return [judge(moving(i), frozen(i))[1] for i in range(frames)]


def wandering(i: int) -> np.ndarray:
    return still(i, at=2 * i)


STATIC = {
    "the other moves": (wandering, lambda i: still(), 8),
    "equal but for noise of a codec": (wandering, lambda i: still() + np.uint8(i % 3), 8),
    "slow motion": (lambda i: still(i, at=i // 4), lambda i: still(), 20),
    "one object moves": (lambda i: with_spot(still(i), 250, 16 + 2 * i), lambda i: still(), 8),
}


@pytest.mark.parametrize("case", STATIC)
def test_frozen_while_the_other_moves(case):
    moving, frozen, first = STATIC[case]
    said = freeze(DeadFrames(), 30, moving=moving, frozen=frozen)
    assert set(said[:8]) == {None}
    assert None not in said[first + 2 :], said


ALIVE = {
    "a static scene seen by both, without noise": (lambda i: still(), lambda i: still()),
    "a static scene seen by both, noise": (lambda i: still(i, 8.0), lambda i: still()),
    "only the exposure changes": (
        lambda i: np.clip(still(i).astype(int) + i, 0, 255).astype(np.uint8),
        lambda i: still(),
    ),
    "noise of a living sensor": (wandering, lambda i: still(i, 1.0)),
    "both freeze": (lambda i: wandering(0), lambda i: still()),
    "a slow camera repeats frames": (wandering, lambda i: still(at=i // 7)),
    "slow motion of its own": (wandering, lambda i: with_spot(still(), 250, 10 + i // 2)),
    "the other is black": (lambda i: even(0, i, 9), lambda i: still()),
    "the other is missing": (lambda i: None, lambda i: still()),
}


@pytest.mark.parametrize("case", ALIVE)
def test_what_must_not_count_as_frozen(case):
    moving, picture = ALIVE[case]
    assert set(freeze(DeadFrames(), 40, moving=moving, frozen=picture)) == {None}


def test_one_source_alone_is_never_frozen():
    judge = DeadFrames()
    assert {judge(None, still())[1] for _ in range(100)} == {None}


def test_frozen_until_the_picture_changes():
    """The motion of the other is needed once; afterwards both may stand still."""
    judge = DeadFrames()
    said = freeze(judge, 12, moving=wandering, frozen=lambda i: still())
    assert said[-1] == "frozen"
    assert judge(wandering(11), still()) == (None, "frozen")
    assert judge(wandering(11), None) == (None, None)
    assert judge(wandering(12), still(at=9)) == (None, None)


def test_thresholds_can_be_set():
    judge = DeadFrames(Dead(frozen_after=2))
    assert freeze(judge, 5, moving=wandering, frozen=lambda i: still())[3:] == ["frozen", "frozen"]
    assert DeadFrames(Dead(black_below=1))(even(3), None) == ("one tone", None)


def test_images_are_left_alone_and_buffers_may_be_reused():
    judge = DeadFrames()
    buffer = np.empty((*SIZE, 3), np.uint8)
    for i in range(20):
        buffer[:] = still(at=i)
        before = buffer.copy()
        assert judge(wandering(i), buffer) == (None, None)
        np.testing.assert_array_equal(buffer, before)


def test_dead_images_are_taken_out_with_a_note_and_a_word_in_the_log(caplog):
    black = {3, 4, 8}
    pairs = [FramePair(i, still(i), even(0) if i in black else still(i), notes=("aux: hm",)) for i in range(10)]
    with caplog.at_level(logging.INFO):
        out = list(without_dead(pairs))
    assert [pair.aux is None for pair in out] == [i in black for i in range(10)]
    assert all(pair.rgb is not None for pair in out)
    assert out[3].notes == ("aux: hm", "aux: black, counts as missing")
    assert out[5].notes == ("aux: hm",)
    assert out[5].aux is pairs[5].aux
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said[:2] == [
        ("WARNING", "aux: black, counts as missing from frame 3"),
        ("WARNING", "aux: back at frame 5"),
    ]
    assert [level for level, _ in said[2:]] == ["INFO", "INFO"]


def write(folder: Path, numbers, pattern: str = "{:04d}.png") -> Path:
    folder.mkdir()
    for number in numbers:
        cv2.imwrite(str(folder / pattern.format(number)), still(at=number % 200))
    return folder


NAMES = [
    (["a001", "a002", "a003"], range(1, 4)),
    (["1", "2", "5", "10"], range(1, 11)),
    (["f10", "f20", "f50"], range(10, 51, 10)),
    (["7"], range(7, 8)),
    (["a1", "b2"], None),
    (["a1", "b"], None),
    (["000001", "900000"], range(1, 900001, 899999)),
    (["1", "2", "900000000000000"], None),  # nearly all would be missing
    (["1.25", "1.50"], range(25, 51, 25)),
    (["01", "1"], None),
]


@pytest.mark.parametrize(("names", "numbers"), NAMES)
def test_numbering(names, numbers):
    assert numbering([Path(f"{name}.png") for name in names]) == numbers


JOINT = [
    (range(10), range(10), "same"),
    (range(10), range(1, 11), "same"),  # they count from different numbers
    (range(10), range(1, 10), range(10)),
    (range(9), range(2, 10), range(10)),
    (range(10), range(0, 20, 2), "same"),
    (range(10), range(50, 55), "same"),
    (range(10), None, "same"),
]


@pytest.mark.parametrize(("rgb", "aux", "both"), JOINT)
def test_joint_numbering(rgb, aux, both):
    assert joint_numbering(rgb, aux) == ((rgb, aux) if both == "same" else (both, both))


def test_a_file_that_is_not_there_is_a_frame_that_is_missing(tmp_path):
    rgb = write(tmp_path / "rgb", [1, 2, 3, 5, 6])
    aux = write(tmp_path / "aux", [1, 3, 4, 5])
    with open_source(rgb, aux, missing_files=True, fps=10) as source:
        assert source.length == 6
        pairs = list(source)
    assert [pair.available for pair in pairs] == [
        ("rgb", "aux"), ("rgb",), ("rgb", "aux"), ("aux",), ("rgb", "aux"), ("rgb",),
    ]  # fmt: skip
    np.testing.assert_array_equal(pairs[4].rgb, pairs[4].aux)  # number 5 with number 5
    assert pairs[3].notes == ("rgb rgb: no image numbered 4, frame 3 counts as missing",)
    assert pairs[5].time == 0.5
    with pytest.raises(InputError, match="5 frames and aux 4"), open_source(rgb, aux):
        pass


def test_names_without_numbers_are_said(tmp_path, caplog):
    folder = write(tmp_path / "rgb", range(3), pattern="{0}x.png")
    with open_source(folder, None, missing_files=True) as source:
        assert len(list(source)) == 3
    assert "not evenly numbered" in caplog.text


def plain(count: int, start: int = 0) -> list[FramePair]:
    return [FramePair(i, still(), still()) for i in range(start, start + count)]


def test_masked_frames():
    mask = np.array([[0, 0], [0, 1], [1, 0], [0, 0], [1, 1]], bool)
    out = list(masked(plain(5), mask, name="m"))
    assert [pair.available for pair in out] == [("rgb", "aux"), ("aux",), ("rgb",), (), ("rgb", "aux")]
    assert [pair.notes for pair in out[2:4]] == [("aux: masked",), ("rgb: masked", "aux: masked")]
    later = list(masked(plain(2, start=3), mask, name="m"))  # tracking begins at frame 3: that one stays whole
    assert [pair.available for pair in later] == [("rgb", "aux"), ("rgb", "aux")]


def test_masks_of_another_length(caplog):
    with pytest.raises(InputError, match=r"m\.txt: 4 rows"):
        list(masked(plain(5), np.ones((4, 2), bool), name="m.txt"))
    assert len(list(masked(plain(3), np.ones((4, 2), bool), name="m.txt"))) == 3
    assert "m.txt: 4 rows, but the last frame is 2" in caplog.text
