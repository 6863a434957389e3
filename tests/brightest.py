"""A network that finds the brightest thing, and pictures for it: what tests of re-detection share."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from duotrack.boxes import iou_xywh
from duotrack.models.outputs import HeadMaps
from duotrack.tracking.redetect import Redetection
from duotrack.tracking.state import StateRule
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY

HEIGHT, WIDTH = 240, 320
RULE = Redetection()
START = (60.0, 60.0, 16.0, 16.0)


@dataclass
class BrightestNet:
    """Finds the brightest square of a search image; its brightness is the score, on an 8x8 grid.

    Where there is none its box is `idle` times the search region. `asked` counts samples, `stacks` has the size of each
    forward.
    """

    broken: bool = False
    idle: float = 1.0
    stacks: list[int] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return sum(self.stacks)

    def __call__(self, *, template, search, available, **_) -> HeadMaps:
        images = next(image for image in search if image is not None)
        self.stacks.append(len(images))
        score, size, offset = (torch.zeros(len(images), n, 8, 8) for n in (1, 2, 2))
        for i, image in enumerate(images):
            grey = image[0] * 0.229 + 0.485
            top = float(grey.max())
            rows, columns = torch.where(grey > top - 0.05)
            if top < 0.3 or len(rows) > 2000:
                size[i] = self.idle
                score[i, 0, 4, 4] = 0.02
                continue
            middle = [(float(axis.min()) + float(axis.max()) + 1) / 2 / 64 * 8 for axis in (columns, rows)]
            column, row = (min(int(value), 7) for value in middle)
            score[i, 0, row, column] = float("nan") if self.broken else top * 0.95
            offset[i, :, row, column] = torch.tensor([middle[0] - column, middle[1] - row])
            sides = [(float(axis.max()) - float(axis.min()) + 1) / 64 for axis in (columns, rows)]
            size[i, :, row, column] = torch.tensor(sides)
        return HeadMaps(score_map=score, size_map=size, offset_map=offset)


def scene(box=None, *, level: int = 255, other=None, other_level: int = 150, seed: int = 0) -> np.ndarray:
    """A dim landscape, another one for another seed, with the target in `box` and something else in `other`."""
    coarse = np.random.default_rng(seed).integers(0, 60, (6, 8)).astype(np.uint8)
    image = np.repeat(np.repeat(coarse, HEIGHT // 6, axis=0), WIDTH // 8, axis=1)
    for place, brightness in ((other, other_level), (box, level)):
        if place is not None:
            x, y, w, h = (round(value) for value in place)
            image[y : y + h, x : x + w] = brightness
    return np.stack([image] * 3, axis=2)


def tracker(net: BrightestNet, **options: object) -> Tracker:
    settings = {"geometry": replace(GEOMETRY, stride=8), "redetect": RULE, "rule": StateRule(lost_after=6)} | options
    return Tracker(net, **settings)  # type: ignore[arg-type]


def moved(step: int) -> tuple[float, float, float, float]:
    return (START[0] + step, START[1], START[2], START[3])


def follow(t: Tracker, frames: list[np.ndarray]):
    return [t.update(image, None) for image in frames]


def overlap(result, box) -> float:
    return float(iou_xywh(result.box, np.array(box)))
