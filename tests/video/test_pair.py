"""Two streams in step."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.errors import InputError
from duotrack.video.pair import by_time, pair
from duotrack.video.source import open_source
from duotrack.video.stream import Frame, Stream


def stream(name, times, *, fps=None, size=(64, 48), exact=True):
    """A stream without decoding: a frame's picture holds its index."""
    frames = (Frame(i, np.full((size[1], size[0], 3), i, np.uint8), t) for i, t in enumerate(times))
    return Stream(name, "video", size, fps, len(times), frames, lambda: None, exact)


def indices(source) -> list[tuple[int | None, int | None]]:
    return [tuple(None if im is None else int(im[0, 0, 0]) for im in (p.rgb, p.aux)) for p in source]


def test_by_index(make_video):
    with open_source(make_video("a.mp4"), make_video("b.mp4")) as source:
        assert (source.length, source.fps, source.size, source.sides) == (10, 25.0, (64, 48), ("rgb", "aux"))
        assert not source.live
        facts = "(video, 64x48, 25 fps, 10 frames)"
        assert source.describe() == f"rgb: a.mp4 {facts}; aux: b.mp4 {facts}; paired by index"
        pairs = list(source)
    assert [p.index for p in pairs] == list(range(10))
    assert all(p.available == ("rgb", "aux") and not p.notes for p in pairs)


@pytest.mark.parametrize(("side", "other"), [("rgb", "aux"), ("aux", "rgb")])
def test_one_alone(make_video, side, other):
    with open_source(**{side: make_video(), other: None}) as source:
        assert source.sides == (side,)
        assert source.length == 10
        assert {p.available for p in source} == {(side,)}


def test_none_at_all():
    with pytest.raises(InputError, match="at least one"):
        open_source(None, None)


def test_different_lengths_are_known_in_advance(make_video):
    with pytest.raises(InputError, match="rgb has 10 frames and aux 7"):
        open_source(make_video("a.mp4", 10), make_video("b.mp4", 7))


@pytest.mark.parametrize(
    ("choice", "length", "expected"),
    [
        ("shortest", 3, [(0, 0), (1, 1), (2, 2)]),
        ("longest", 5, [(0, 0), (1, 1), (2, 2), (3, None), (4, None)]),
    ],
)
def test_different_lengths_allowed(choice, length, expected, caplog):
    source = pair(stream("a", [0] * 5), stream("b", [0] * 3), length_mismatch=choice)
    assert source.length == length
    pairs = list(source)
    assert indices(pairs) == expected
    assert [p.notes for p in pairs[3:]] == [(f"aux: no frame to go with frame {i}",) for i in range(3, length)]
    lacking = ["paired by index: 2 of 5 frames have no aux frame to go with them"]
    assert caplog.messages == (lacking if choice == "longest" else [])


@pytest.mark.parametrize(
    ("rgb", "aux", "message"), [(5, 3, "rgb has more than 3 frames and aux 3"), (3, 5, "rgb has 3 frames and aux more")]
)
def test_different_lengths_found_on_the_way(rgb, aux, message):
    # the containers only estimate their lengths, so that the difference shows at the end
    source = pair(stream("a", [0] * rgb, exact=False), stream("b", [0] * aux, exact=False))
    with pytest.raises(InputError, match=message):
        list(source)


def test_different_sizes(make_video):
    rgb, aux = make_video("a.mp4"), make_video("b.mp4", size=(32, 24))
    with pytest.raises(InputError, match="rgb is 64x48 and aux 32x24"):
        open_source(rgb, aux)
    with open_source(rgb, aux, resize_aux=True) as source:
        assert {p.aux.shape for p in source} == {(48, 64, 3)}
    assert not [t for t in threading.enumerate() if t.name.startswith("duotrack")]


@pytest.mark.parametrize(
    ("rgb", "aux", "tolerance", "expected"),
    [
        ([0, 1, 2], [0, 1, 2], 0.1, [(0, 0), (1, 1), (2, 2)]),
        ([0, 1, 2], [0.05, 1.05, 2.2], 0.1, [(0, 0), (1, 1), (2, None), (None, 2)]),
        ([0, 1, 2], [1, 2], 0.1, [(0, None), (1, 0), (2, 1)]),
        ([0, 0.1, 0.2, 0.3], [0.09, 0.29], 0.05, [(0, None), (1, 0), (2, None), (3, 1)]),  # twice the rate
        ([0, 0.1, 0.2], [0.07], 0.1, [(0, None), (1, 0), (2, None)]),  # the nearer of two within tolerance
        ([0.07], [0, 0.1, 0.2], 0.1, [(None, 0), (0, 1), (None, 2)]),
        ([0], [5], 0.1, [(0, None), (None, 0)]),
    ],
)
def test_by_time(rgb, aux, tolerance, expected):
    assert indices(pair(stream("a", rgb), stream("b", aux), sync="time", tolerance=tolerance)) == expected


times = st.lists(st.integers(0, 200), max_size=20, unique=True).map(sorted)


@given(times, times, st.integers(0, 30))
def test_by_time_gives_every_frame_once_in_order_and_mutual_nearest(rgb, aux, tolerance):
    a, b = stream("a", rgb), stream("b", aux)
    sides = list(by_time(a, b, tolerance=tolerance))
    assert [left.index for left, _ in sides if left] == list(range(len(rgb)))
    assert [right.index for _, right in sides if right] == list(range(len(aux)))
    for left, right in sides:
        assert left or right
        if left and right:
            gap = abs(left.time - right.time)
            assert gap <= tolerance
            # nobody who comes later would have been nearer to either
            assert gap == min(abs(t - right.time) for t in rgb[left.index :])
            assert gap == min(abs(left.time - t) for t in aux[right.index :])
    pairs = {(left.time, right.time) for left, right in sides if left and right}
    for t in rgb:  # who are each other's only nearest are never parted
        for u in aux:
            gap = abs(t - u)
            alone = all(abs(v - u) > gap for v in rgb if v != t) and all(abs(t - v) > gap for v in aux if v != u)
            assert not (gap <= tolerance and alone) or (t, u) in pairs


@pytest.mark.parametrize(
    ("fps", "expected"), [((10, 30), [(0, 0), (1, 1)]), ((None, None), [(0, None), (None, 0), (1, None), (None, 1)])]
)
def test_default_tolerance_is_half_the_longer_interval(fps, expected):
    rgb, aux = stream("a", [0, 0.1], fps=fps[0]), stream("b", [0.04, 0.14], fps=fps[1])
    assert indices(pair(rgb, aux, sync="time")) == expected


def test_time_counts_from_the_start():
    source = pair(stream("a", [1000.5, 1000.6]), stream("b", [1000.4, 1000.6]), sync="time", tolerance=0.01)
    assert [p.time for p in source] == pytest.approx([0, 0.1, 0.2])


def test_by_time_without_times():
    with pytest.raises(InputError, match="b has no timestamps"):
        pair(stream("a", [0, 1]), stream("b", [None, None]), sync="time")
