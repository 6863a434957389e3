"""Frames taken out by a mask: what a recorded pair of streams would be if a sensor had dropped out here and there."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError
from duotrack.frames import MODALITIES, FramePair

log = logging.getLogger(__name__)


def masked(pairs: Iterable[FramePair], mask: NDArray[np.bool_], *, name: str) -> Iterator[FramePair]:
    """The same frames without the images whose place in `mask` is False, each with a note ("rgb: masked").

    The first pair, which a tracker is initialised with, stays whole whatever its row says (docs/specs/ipl.md, section
    6). A mask that goes on after the frames have ended is said in the log.

    Args:
        pairs: in order; row `index` of the mask is for the pair of that index.
        mask: (F, 2) for (rgb, aux).
        name: what to call it in messages.

    Raises:
        InputError: the frames go on after the mask has ended.
    """
    first, index = True, -1
    for pair in pairs:
        index = pair.index
        if index >= len(mask):
            raise InputError(f"{name}: {len(mask)} rows, and the source has more frames; one row a frame is needed")
        gone = [
            side
            for side, image, there in zip(MODALITIES, (pair.rgb, pair.aux), mask[index], strict=True)
            if image is not None and not there and not first
        ]
        first = False
        if gone:
            notes = (*pair.notes, *(f"{side}: masked" for side in gone))
            rgb, aux = (
                None if side in gone else image for side, image in zip(MODALITIES, (pair.rgb, pair.aux), strict=True)
            )
            pair = replace(pair, rgb=rgb, aux=aux, notes=notes)
        yield pair
    if index + 1 < len(mask):
        log.warning("%s: %d rows, but the last frame is %d: is it the mask of this video?", name, len(mask), index)
