"""How the network sees the box it was given: measured once, in the first frame, and partly taken off what is reported.

A box says where its user ends the object: with its shadow or without, with the rotor or without. Asked for the target
in the very frame it was shown in, a network answers with a box of its own; what it does differently there it goes on
doing, in part: half of that difference, taken off each box that is reported, brought more on validation videos than
all of it. The tracker itself goes on searching round the network's own boxes: fed back, a
correction of the size would act anew in each frame, since what a network says of a size depends on the region's.

No published tracker does this: it is ours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duotrack.boxes import iou_xywh

_AGREES = 0.5
"""Overlap below which the network saw something else than the box's owner: nothing is learnt from that."""
_LARGEST = 0.25
"""Shift over the size, and logarithm of the size's ratio, are taken for no more than this."""


@dataclass(frozen=True, eq=False)
class Bias:
    """`shift` (2,): the network's centre less the given one, over the size; `size` (2,): log of the sizes' ratio."""

    shift: NDArray[np.float64]
    size: NDArray[np.float64]


NONE = Bias(np.zeros(2), np.zeros(2))


def measure(seen: NDArray[np.float64], given: NDArray[np.float64]) -> Bias:
    """The bias of what the network saw in a frame, `seen`, against the box it was given there, both (4,) `xywh`."""
    if not float(iou_xywh(seen, given)) >= _AGREES:
        return NONE
    shift = (seen[:2] + seen[2:] / 2 - given[:2] - given[2:] / 2) / given[2:]
    size = np.log(seen[2:] / given[2:])
    return Bias(np.clip(shift, -_LARGEST, _LARGEST), np.clip(size, -_LARGEST, _LARGEST))


def unbiased(box: NDArray[np.float64], bias: Bias, share: float) -> NDArray[np.float64]:
    """A box (4,) `xywh` of the network less a share of its bias, 0 to 1."""
    centre = box[:2] + box[2:] / 2 - share * bias.shift * box[2:]
    size = box[2:] * np.exp(-share * bias.size)
    return np.concatenate([centre - size / 2, size])
