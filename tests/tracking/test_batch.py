"""Many trackers in lockstep: the boxes of one-by-one tracking, whatever is missing, however long each video is."""

from functools import cache

import numpy as np
import pytest
import torch

from duotrack.errors import InputError
from duotrack.models.ckd import CKD
from duotrack.models.head import CenterHead
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, Geometry
from duotrack.tracking import batch
from duotrack.tracking.batch import MultiTracker, answer_together, update_together
from duotrack.tracking.question import default_stack
from duotrack.tracking.tracker import Tracker

BOTH, RGB, AUX, NONE = (True, True), (True, False), (False, True), (False, False)
# size of the frames, box, and which modalities each frame has
VIDEOS = [
    ((96, 128), (40.0, 30.0, 24.0, 16.0), [BOTH] * 9),
    ((72, 100), (20.0, 20.0, 15.0, 30.0), [RGB, RGB, BOTH, AUX, NONE, BOTH]),
    ((200, 160), (100.0, 120.0, 40.0, 25.0), [AUX, BOTH, BOTH, RGB, RGB, BOTH, AUX, BOTH]),
    ((96, 128), (70.0, 40.0, 30.0, 30.0), [BOTH, NONE, RGB]),
    ((64, 64), (10.0, 12.0, 20.0, 20.0), [BOTH] * 7),
]


@pytest.fixture(autouse=True)
def one_thread():
    """As benchmark runs compute on the CPU; two threads for maps this small only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def frame(video: int, index: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    size, _, there = VIDEOS[video]
    rng = np.random.default_rng([video, index])
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(2)]
    return tuple(image if has else None for image, has in zip(images, there[index], strict=True))


@cache
def tracker(name: str) -> Tracker:
    """A true network with random weights; its maps vary enough for boxes to wander."""
    torch.manual_seed(3)
    if name == "small":
        branch = lambda: VisionTransformer(template_size=32, search_size=64, dim=32, depth=4, heads=2)  # noqa: E731
        net = CKD(branch=branch, head=lambda inputs: CenterHead(inputs=inputs, channels=16), stages=(1, 2))
        return Tracker(net.eval(), geometry=Geometry(template_size=32, search_size=64))
    spec = MODELS[name]
    return Tracker(spec.build(elimination="mce").eval(), geometry=spec.geometry)


@cache
def one_by_one(name: str) -> list[list]:
    results = []
    for video, (_, box, there) in enumerate(VIDEOS):
        single = tracker(name).clone()
        single.init(*frame(video, 0), box)
        results.append([single.update(*frame(video, i)) for i in range(1, len(there))])
    return results


def together(name: str, stack: int, order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> list[list]:
    """All videos in lockstep; a video that has ended leaves the batch."""
    trackers = {video: tracker(name).clone() for video in order}
    for video, single in trackers.items():
        single.init(*frame(video, 0), VIDEOS[video][1])
    results = {video: [] for video in order}
    for index in range(1, 9):
        alive = [video for video in order if index < len(VIDEOS[video][2])]
        found = update_together(
            [trackers[video] for video in alive], [frame(video, index) for video in alive], stack=stack
        )
        for video, result in zip(alive, found, strict=True):
            results[video].append(result)
    return [results.get(video, []) for video in range(5)]


@pytest.mark.parametrize("name", ["small", "ckd-tiny"])
def test_exactly_as_one_by_one(name):
    for alone, beside in zip(one_by_one(name), together(name, stack=1), strict=True):
        assert len(alone) == len(beside)
        for a, b in zip(alone, beside, strict=True):
            assert a.box.tobytes() == b.box.tobytes()
            assert (a.score, a.state, a.available) == (b.score, b.state, b.available)


@pytest.mark.parametrize("name", ["small", "ckd-tiny"])
@pytest.mark.parametrize("stack", [2, 5])
def test_one_forward_for_all_differs_by_rounding(name, stack):
    for alone, beside in zip(one_by_one(name), together(name, stack=stack), strict=True):
        for a, b in zip(alone, beside, strict=True):
            np.testing.assert_allclose(a.box, b.box, atol=1e-3)
            assert a.score == pytest.approx(b.score, abs=1e-4)
            assert a.available == b.available


def test_boxes_do_not_depend_on_who_is_beside():
    """Stacks of one size: other neighbours, another place in the stack, fewer left, same bits."""
    reference = together("small", stack=4)
    for order in [(4, 2, 0, 1, 3), (2, 0), (1,)]:
        other = together("small", stack=4, order=order)
        for video in order:
            for a, b in zip(reference[video], other[video], strict=True):
                assert a.box.tobytes() == b.box.tobytes()


class Counting:
    """Remembers how large each forward was."""

    def __init__(self, net) -> None:
        self.net, self.sizes = net, []

    def __call__(self, **inputs):
        self.sizes.append((len(next(s for s in inputs["search"] if s is not None)), inputs["available"]))
        return self.net(**inputs)


@pytest.mark.parametrize(
    ("stack", "expected"), [(3, [3]), (8, [8]), (2, [2, 2]), (1, [1, 1, 1])], ids=["full", "filled", "two", "single"]
)
def test_one_forward_a_stack(stack, expected):
    net = Counting(tracker("small").net)
    prototype = Tracker(net, geometry=tracker("small").geometry)
    trackers = [prototype.clone() for _ in range(3)]
    for video, single in zip((0, 3, 4), trackers, strict=True):
        single.init(*frame(video, 0), VIDEOS[video][1])
    update_together(trackers, [frame(0, 1), frame(0, 2), frame(4, 1)], stack=stack)
    assert net.sizes == [(size, ("rgb", "aux")) for size in expected]


def test_one_bad_frame_moves_nobody():
    trackers = [tracker("small").clone() for _ in range(2)]
    for single in trackers:
        single.init(*frame(0, 0), VIDEOS[0][1])
    with pytest.raises(InputError, match="100x72"):
        update_together(trackers, [frame(0, 1), frame(1, 2)], stack=1)
    again = tracker("small").clone()
    again.init(*frame(0, 0), VIDEOS[0][1])
    np.testing.assert_array_equal(trackers[0].update(*frame(0, 1)).box, again.update(*frame(0, 1)).box)


def test_all_blind_asks_nothing_of_the_network():
    net = Counting(tracker("small").net)
    blind = Tracker(net, geometry=tracker("small").geometry)
    blind.init(*frame(0, 0), VIDEOS[0][1])
    (result,) = answer_together([blind], [blind.ask(None, None)], stack=4)
    assert (result.score, result.available, net.sizes) == (0.0, (), [])
    np.testing.assert_array_equal(result.box, VIDEOS[0][1])


def test_stacks_are_for_gpus():
    assert default_stack(torch.device("cpu"), 16) == 1
    assert default_stack(torch.device("cuda"), 16) == 16


def test_several_objects_of_a_video_are_one_forward_where_stacks_are_used(monkeypatch):
    net = Counting(tracker("small").net)
    many = MultiTracker(Tracker(net, geometry=tracker("small").geometry))
    box = VIDEOS[0][1]
    boxes = [box, (box[0] + 3, *box[1:]), (*box[:2], box[2] + 4, box[3])]
    many.init(*frame(0, 0), boxes)
    alone = [each.box for each in many.update(*frame(0, 1))]
    many.init(*frame(0, 0), boxes)
    monkeypatch.setattr(batch, "default_stack", lambda device, count: count)  # as on a GPU
    beside = [each.box for each in many.update(*frame(0, 1))]
    assert [size for size, _ in net.sizes] == [1, 1, 1, 3]
    np.testing.assert_allclose(beside, alone, atol=1e-3)
