"""Finding a target again that jumped, left or was hidden: a search of the whole frame, a few regions a frame.

While the network is sure of the target nothing happens. Once its confidence has been low for a few frames, or at once
when the picture is cut to another one, the tracker also looks elsewhere: first at a wide region round the place where
the target was last seen well, then at tiles that cover the frame, nearest first, at the scale of the target, then at
others. A tile's region is larger than a search region, so that few tiles cover a frame; what it shows is looked at
again as in an ordinary search. Only what holds up there, and again in the next frames, and is surer than the ordinary
track, becomes the target. `budget` bounds the forwards of the network that a frame may cost beyond the ordinary one.

All functions are pure; `look` stands for the network. Not part of any published tracker: it is ours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from duotrack.boxes import clip_xywh
from duotrack.frames import Image

Box = NDArray[np.float64]
Look = Callable[[Sequence[Box], float, bool], list[tuple[Box, float]]]
"""(boxes, factor, near): what the network finds in the squares of `factor` times the boxes' sides round each: box and
confidence; `near` prefers the centre, as an ordinary search does."""
Thumbnails = tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]

NEARBY = (2.0, 0.6)
"""Widths of the first looks, round the place where the target was last seen well: it went away, or the box grew."""


@dataclass(frozen=True, kw_only=True)
class Redetection:
    """When to look elsewhere, where, and what to believe; confidences are calibrated scores in [0, 1]."""

    begin_below: float = 0.35
    """Confidences below this count as low."""
    begin_after: int = 2
    """So many low frames in a row begin a search; a cut begins one at once."""
    budget: int = 3
    """Forwards of the network a frame beyond the ordinary one, at most."""
    glance: float = 0.3
    """Confidence from which something in a tile is looked at closely."""
    accept: float = 0.5
    """Confidence from which a close look counts, and a box is a reliable one."""
    margin: float = 0.1
    """By so much a find must be surer than the ordinary track."""
    confirm: int = 1
    """So many further frames must confirm a find."""
    sure: float = 0.8
    """Share of the usual confidence from which an ordinary track ends the search, after `end_after` frames in a row."""
    end_after: int = 4
    """See `sure`."""
    size_change: float = 3.0
    """A find may be so many times larger or smaller than the target was, a side."""
    widths: tuple[float, ...] = (1.5, 1.0, 3.0)
    """Sides of the tiles over an ordinary search region's, a sweep of the frame each; then from the start again."""
    tiles: int = 24
    """A sweep has so many tiles at most: in a frame that is large for its target they are larger."""


@dataclass(frozen=True, eq=False)
class Hunt:
    """What the search knows from frame to frame.

    `anchor`: the last box that the network was sure of, and `usual`: how sure it has been lately; `low` and `high`:
    frames in a row in which it was not, and was again; `cursor`: how many tiles were looked at since the search began,
    None: there is none; `find` and `confirmed`: what was found, and in how many frames it was seen again;
    `thumbnails` of the last frame; `unrest`: how much pictures changed of late.
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
    rule: Redetection,
    hunt: Hunt,
    box: Box,
    score: float,
    *,
    images: tuple[Image | None, Image | None],
    factor: float,
    look: Look,
) -> tuple[Hunt, tuple[Box, float] | None]:
    """Take one frame into account.

    Args:
        hunt: as the frame before left it.
        box, score: what the ordinary search found, and how confidently.
        images: the frame, (rgb, aux); with both missing nothing is searched.
        factor: side of an ordinary search region over the target's.
        look: asks the network about this frame.

    Returns:
        What to remember, and the target's new box and confidence where it was found again elsewhere.
    """
    there = next((image for image in images if image is not None), None)
    if there is None:
        return hunt, None
    size = (there.shape[0], there.shape[1])
    thumbnails = (thumbnail(images[0]), thumbnail(images[1]))
    cut, unrest = is_cut(hunt.thumbnails, thumbnails, hunt.unrest)
    low = hunt.low + 1 if score < rule.begin_below else 0
    high = hunt.high + 1 if score >= max(rule.accept, rule.sure * hunt.usual) else 0
    hunt = replace(hunt, thumbnails=thumbnails, unrest=unrest, low=low, high=high)
    if cut:
        hunt = replace(hunt, cursor=len(NEARBY), high=0, find=None, confirmed=0)
    elif hunt.cursor is not None and high >= rule.end_after:
        hunt = _at_rest(hunt)
    elif hunt.cursor is None and low >= rule.begin_after:
        hunt = replace(hunt, cursor=0)
    if high and not cut:
        hunt = replace(hunt, anchor=box)
    if hunt.cursor is None:
        if score >= rule.accept:
            hunt = replace(hunt, usual=0.9 * hunt.usual + 0.1 * score)
        return hunt, None
    needed = max(rule.accept, score + rule.margin, rule.sure * hunt.usual if hunt.cursor < rule.tiles else 0)
    left = rule.budget
    if hunt.find is not None:
        [(again, confidence)] = look([hunt.find], factor, True)
        left -= 1
        if confidence >= needed:
            hunt = replace(hunt, find=again, confirmed=hunt.confirmed + 1)
            if hunt.confirmed >= rule.confirm:
                return replace(hunt, anchor=again, low=0, high=0, find=None, confirmed=0), (again, confidence)
            return hunt, None
        hunt = replace(hunt, find=None, confirmed=0)
    return _sweep(rule, hunt, needed, size=size, factor=factor, left=left, look=look), None


def restrained(rule: Redetection, hunt: Hunt, previous: Box, box: Box, score: float) -> Box:
    """The box to report and to search around where nothing was found elsewhere.

    Where the network is not sure the box of the frame before is held, so that it neither runs away nor grows; while the
    search goes on it has the size of the last reliable one.
    """
    if score >= rule.begin_below:
        return box
    if hunt.cursor is None:
        return previous
    sides = hunt.anchor[2:]
    return np.concatenate([previous[:2] + previous[2:] / 2 - sides / 2, sides])


def _at_rest(hunt: Hunt) -> Hunt:
    return replace(hunt, cursor=None, find=None, confirmed=0)


def _sweep(
    rule: Redetection, hunt: Hunt, needed: float, *, size: tuple[int, int], factor: float, left: int, look: Look
) -> Hunt:
    """Look at the next tiles, and closely at the best thing in them."""
    assert hunt.cursor is not None
    seen: list[tuple[Box, float]] = []
    cursor = hunt.cursor
    for place, width in places(rule, hunt.anchor, size, factor, start=cursor, count=left - 1):
        seen += look([place], factor * width, False)
        cursor += 1
    hunt = replace(hunt, cursor=cursor)
    best, confidence = max(seen, key=lambda each: each[1], default=(hunt.anchor, 0.0))
    if confidence < rule.glance:
        return hunt
    [(closer, confidence)] = look([clip_xywh(best, *size)], factor, True)
    change = math.sqrt(closer[2] * closer[3] / (hunt.anchor[2] * hunt.anchor[3]))
    if confidence < needed or not 1 / rule.size_change <= change <= rule.size_change:
        return hunt
    return replace(hunt, find=closer)


def places(
    rule: Redetection, anchor: Box, size: tuple[int, int], factor: float, *, start: int, count: int
) -> list[tuple[Box, float]]:
    """The places numbered `start` to `start + count`, without end: boxes to look round, and the width of the look.

    Args:
        anchor: last reliable box; its size is the target's.
        size: of the frame, height and width.
        factor: side of an ordinary search region over the target's.
    """
    sweeps: list[list[tuple[Box, float]]] = [[(anchor, width) for width in NEARBY]]
    length = len(NEARBY)
    rounds = 0
    chosen: list[tuple[Box, float]] = []
    index = 0
    while len(chosen) < count:
        if index >= length:
            width = rule.widths[rounds % len(rule.widths)]
            rounds += 1
            sweeps.append(tiles(anchor, size, factor, width, limit=rule.tiles))
            length += len(sweeps[-1])
            continue
        if index >= start:
            chosen.append([each for sweep in sweeps for each in sweep][index])
        index += 1
    return chosen


def tiles(anchor: ArrayLike, size: tuple[int, int], factor: float, width: float, *, limit: int) -> list[tuple[Box, float]]:
    """Places that together show the whole frame, nearest to `anchor` first.

    Neighbouring squares overlap by the target's side, so that one of them shows it whole.
    """
    x, y, w, h = np.asarray(anchor, np.float64).tolist()
    side = math.sqrt(w * h)
    height, length = size
    while True:
        square = factor * width * side
        target = side * max(width, 1.0)
        step = max(square - target, 1.0)
        columns, rows = (max(1, math.ceil((extent - target) / step)) for extent in (length, height))
        if columns * rows <= limit:
            break
        width *= 1.25
    centres = [(cx, cy) for cy in _spread(height, square, rows) for cx in _spread(length, square, columns)]
    centres.sort(key=lambda c: math.hypot(c[0] - x - w / 2, c[1] - y - h / 2))
    return [(np.array([cx - side / 2, cy - side / 2, side, side]), width) for cx, cy in centres]


def _spread(extent: float, square: float, count: int) -> list[float]:
    """Centres of `count` squares spread evenly over a line."""
    if count == 1:
        return [extent / 2]
    return np.linspace(square / 2, max(extent - square / 2, square / 2), count).tolist()


def thumbnail(image: Image | None) -> NDArray[np.float32] | None:
    """(16, 16) grey levels of a frame, without their mean: a change of exposure is no other picture."""
    if image is None:
        return None
    every = max(1, min(image.shape[:2]) // 64)
    small = cv2.resize(np.ascontiguousarray(image[::every, ::every]), (16, 16), interpolation=cv2.INTER_AREA)
    grey = small.astype(np.float32).mean(axis=2)
    return np.asarray(grey - grey.mean(), np.float32)


def is_cut(before: Thumbnails, now: Thumbnails, unrest: float) -> tuple[bool, float]:
    """Whether the picture is another one, by every modality that both frames have; and the new `unrest`."""
    changes = [_change(a, b) for a, b in zip(before, now, strict=True) if a is not None and b is not None]
    if not changes:
        return False, unrest
    change = min(changes)
    return change > max(0.3, 3 * unrest), 0.9 * unrest + 0.1 * min(change, 0.3)


def _change(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Mean difference over mean contrast; the 1 keeps noise on an even picture from counting."""
    contrast = (np.abs(before).mean() + np.abs(now).mean()) / 2
    return float(np.abs(before - now).mean() / (contrast + 1))
