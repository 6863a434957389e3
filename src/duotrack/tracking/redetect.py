"""Finding a target again that jumped, left or was hidden: a search of the whole frame, a few regions a frame.

While the network is sure of the target nothing happens. Once its confidence has been low for a few frames, or at once
when the picture is cut to another one, the tracker also looks elsewhere (it hunts): first round the place where the
target was last seen well, wider and narrower, then at tiles that cover the frame, nearest first, at the target's scale
and at others. A tile shows more than a search region does, so that few cover a frame; the best thing in them is looked
at again as in an ordinary search. Only what holds up there and in the next frame, and is surer than the ordinary track,
becomes the target. At first a find must be about as sure as the track usually was; once the frame was swept `accept`
suffices. `budget` bounds the forwards of the network that a frame may cost beyond the ordinary one.

Where the network is not sure the box is held (`held`): it would run away, and grow to the size of the frame.

All functions are pure; `look` stands for the network. No published tracker does this: it is ours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError
from duotrack.frames import Image
from duotrack.tracking.missing import Images

Box = NDArray[np.float64]
Place = tuple[Box, float]
"""A square of the frame: its side is the second over the geometric mean side of the box, whose centre it has."""
Look = Callable[[Sequence[Place], bool], list[tuple[Box, float]]]
"""What the network finds in each of some places of the frame: box and confidence. With True, as in an ordinary search,
it prefers the centre."""
Thumbnails = tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]


@dataclass(frozen=True, kw_only=True)
class Redetection:
    """When to look elsewhere, where, and what to believe; confidences are calibrated scores in [0, 1]."""

    begin_below: float = 0.35
    """Confidences below this count as low, and hold the box."""
    begin_after: int = 2
    """So many low frames in a row begin a hunt; a cut begins one at once."""
    budget: int = 3
    """Forwards of the network a frame beyond the ordinary one, at most; 2 at least."""
    nearby: tuple[float, ...] = (2.0, 0.6)
    """Sides of the first places, round the last reliable box, over an ordinary search region's."""
    widths: tuple[float, ...] = (1.5, 1.0, 3.0)
    """Sides of tiles over an ordinary search region's; one sweep of the frame each, then from the start again."""
    tiles: int = 24
    """A sweep has so many tiles at most: in a frame that is large for its target they are larger, and a sweep whose
    tiles become about as large as an earlier one's is left out."""
    glance: float = 0.3
    """Confidence from which something in a tile is looked at closely."""
    accept: float = 0.5
    """Confidence that a find needs in any case."""
    margin: float = 0.1
    """By so much a find must be surer than the ordinary track."""
    size_change: float = 3.0
    """A find may be so many times larger or smaller than the target was, a side."""
    confirm: int = 1
    """So many further frames must confirm a find."""
    sure: float = 0.8
    """Share of the usual confidence from which a frame is reliable."""
    end_after: int = 4
    """So many reliable frames in a row of the ordinary track end a hunt."""

    def __post_init__(self) -> None:
        if self.budget < 2:
            raise InputError(
                f"budget is {self.budget}: looking elsewhere takes 2 forwards a frame, a tile and a close look"
            )


@dataclass(frozen=True, eq=False)
class Hunt:
    """What is known from frame to frame.

    `anchor`: the box of the last reliable frame; `usual`: how sure the network has been lately; `low` and `high`: low
    and reliable frames in a row; `cursor`: how many places were looked at in this hunt, None while there is none;
    `find` and `confirmed`: what was found, and in how many frames it was seen again; `thumbnails` of the last frame;
    `unrest`: how much pictures changed of late.
    """

    anchor: Box
    usual: float = 0.8
    low: int = 0
    high: int = 0
    cursor: int | None = None
    find: Box | None = None
    confirmed: int = 0
    thumbnails: Thumbnails = (None, None)
    unrest: float = 0.0


def pursue(
    rule: Redetection, hunt: Hunt, box: Box, score: float, *, images: Images, factor: float, look: Look
) -> tuple[Hunt, tuple[Box, float] | None]:
    """Take one frame into account, and hunt in it where that is due.

    Args:
        hunt: as the frame before left it.
        box, score: what the ordinary search found, and how confidently.
        images: the frame, (rgb, aux), (H, W, 3) uint8; with both missing nothing is searched.
        factor: side of an ordinary search region over the target's.
        look: asks the network about this frame.

    Returns:
        What to remember, and the target's new box and confidence where it was found again elsewhere.
    """
    there = next((image for image in images if image is not None), None)
    if there is None:
        return hunt, None
    hunt, cut = _noticed(rule, hunt, score, images)
    if hunt.high and not cut:
        hunt = replace(hunt, anchor=box)
    if hunt.cursor is None:
        usual = 0.9 * hunt.usual + 0.1 * score if score >= rule.accept else hunt.usual
        return replace(hunt, usual=usual), None
    around, once = places(rule, hunt.anchor, there.shape[:2], factor)
    needed = max(rule.accept, score + rule.margin, rule.sure * hunt.usual if hunt.cursor < once else 0.0)
    left = rule.budget
    if hunt.find is not None:
        [(again, confidence)] = look([(hunt.find, factor)], True)
        left -= 1
        confirmed = hunt.confirmed + 1 if confidence >= needed else 0
        if confirmed >= rule.confirm:
            return replace(hunt, anchor=again, low=0, high=0, find=None, confirmed=0), (again, confidence)
        hunt = replace(hunt, find=again if confirmed else None, confirmed=confirmed)
        if confirmed:
            return hunt, None
    return _swept(rule, hunt, needed, around, left, factor, look), None


def held(hunt: Hunt, previous: Box) -> Box:
    """The box to hold, and to search around, where the confidence is low and nothing was found elsewhere.

    That of the frame before, in a hunt with the size of the last reliable one; it may leave the frame.
    """
    if hunt.cursor is None:
        return previous
    sides = hunt.anchor[2:]
    return np.concatenate([previous[:2] + previous[2:] / 2 - sides / 2, sides])


def _noticed(rule: Redetection, hunt: Hunt, score: float, images: Images) -> tuple[Hunt, bool]:
    """Counts, and whether a hunt begins, goes on or ends with this frame; and whether the picture was cut."""
    thumbnails = (thumbnail(images[0]), thumbnail(images[1]))
    cut, unrest = is_cut(hunt.thumbnails, thumbnails, hunt.unrest)
    low = hunt.low + 1 if score < rule.begin_below else 0
    high = hunt.high + 1 if score >= max(rule.accept, rule.sure * hunt.usual) and not cut else 0
    hunt = replace(hunt, thumbnails=thumbnails, unrest=unrest, low=low, high=high)
    if cut:  # where the target was says nothing any more
        return replace(hunt, cursor=len(rule.nearby), find=None, confirmed=0), True
    if hunt.cursor is None:
        return replace(hunt, cursor=0 if low >= rule.begin_after else None), False
    if high >= rule.end_after:
        return replace(hunt, cursor=None, find=None, confirmed=0), False
    return hunt, False


def _swept(
    rule: Redetection, hunt: Hunt, needed: float, around: list[Place], left: int, factor: float, look: Look
) -> Hunt:
    """Look at the next places with the forwards that are `left`, the last one of them for the best thing seen."""
    assert hunt.cursor is not None
    count = min(left - 1, len(around))
    if count < 1:
        return hunt
    seen = look([around[(hunt.cursor + i) % len(around)] for i in range(count)], False)
    hunt = replace(hunt, cursor=hunt.cursor + count)
    best, confidence = max(seen, key=lambda each: each[1])
    if confidence < rule.glance:
        return hunt
    [(closer, confidence)] = look([(best, factor)], True)
    change = math.sqrt(closer[2] * closer[3] / (hunt.anchor[2] * hunt.anchor[3]))
    if confidence < needed or not 1 / rule.size_change <= change <= rule.size_change:
        return hunt
    return replace(hunt, find=closer)


def places(rule: Redetection, anchor: Box, size: tuple[int, int], factor: float) -> tuple[list[Place], int]:
    """Everywhere that a hunt looks, in order: round `anchor`, then one sweep of the frame a width.

    A sweep whose tiles became about as large as those of an earlier one is left out: it would show the same again.

    Args:
        anchor: the last reliable box; its size is the target's.
        size: of the frame, height and width.
        factor: side of an ordinary search region over the target's.

    Returns:
        The places, and how many of them it takes until the frame was swept once.
    """
    near = [(anchor, factor * width) for width in rule.nearby]
    sweeps: list[list[Place]] = []
    for width in rule.widths:
        sweep = tiles(anchor, size, factor * width, limit=rule.tiles)
        if all(abs(math.log(sweep[0][1] / earlier[0][1])) > math.log(_GROWN) for earlier in sweeps):
            sweeps.append(sweep)
    return near + [place for sweep in sweeps for place in sweep], len(near) + sum(len(sweep) for sweep in sweeps[:1])


def tiles(anchor: Box, size: tuple[int, int], factor: float, *, limit: int) -> list[Place]:
    """At most `limit` places that together show the whole frame (height, width), those nearest to `anchor` first.

    Neighbours overlap by the target's side, so that one of them shows it whole; where there would be too many tiles
    they become larger.
    """
    side = math.sqrt(anchor[2] * anchor[3])
    while True:
        square = factor * side
        down, across = (max(1, math.ceil((extent - side) / max(square - side, 1.0))) for extent in size)
        if down * across <= limit:
            break
        factor *= _GROWN
    middle = anchor[:2] + anchor[2:] / 2
    centres = [np.array([x, y]) for y in _spread(size[0], square, down) for x in _spread(size[1], square, across)]
    centres.sort(key=lambda centre: float(np.hypot(*(centre - middle))))
    return [(np.array([*(centre - side / 2), side, side]), factor) for centre in centres]


def _spread(extent: float, square: float, count: int) -> list[float]:
    """Centres of `count` squares spread evenly over a line from end to end."""
    return [extent / 2] if count == 1 else np.linspace(square / 2, extent - square / 2, count).tolist()


def thumbnail(image: Image | None) -> NDArray[np.float32] | None:
    """(16, 16) grey levels of a frame, without their mean: a change of exposure is no other picture."""
    if image is None:
        return None
    every = max(1, min(image.shape[:2]) // 64)
    small = cv2.resize(np.ascontiguousarray(image[::every, ::every]), (16, 16), interpolation=cv2.INTER_AREA)
    grey = small.astype(np.float32).mean(axis=2)
    return np.asarray(grey - grey.mean(), np.float32)


def is_cut(before: Thumbnails, now: Thumbnails, unrest: float) -> tuple[bool, float]:
    """Whether the picture is another one, by every modality that both frames have; and the new `unrest`.

    A change counts as its mean over the mean contrast; it must be large, and much larger than in the last frames, so
    that a shaken camera cuts nothing. The 1 (a grey level) keeps noise on an even picture from counting.
    """
    changes = [
        float(np.abs(a - b).mean() / ((np.abs(a).mean() + np.abs(b).mean()) / 2 + 1))
        for a, b in zip(before, now, strict=True)
        if a is not None and b is not None
    ]
    if not changes:
        return False, unrest
    change = min(changes)
    return change > max(_CUT, 3 * unrest), 0.9 * unrest + 0.1 * change


_GROWN = 1.25
"""Step by which tiles become larger where there are too many; so all that had to are within one step of each other."""
_CUT = 0.3
"""Of the real cuts in the held-out videos the weakest changed 0.36; a shaken camera up to 0.32, all the time."""
