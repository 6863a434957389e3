"""Still images as one-frame sequences: training pairs of any region, for variety that a few videos lack."""

from pathlib import Path

import numpy as np

from duotrack.datasets.sequence import Frames, Sequence
from duotrack.errors import InputError
from duotrack.images import SUFFIXES


def open_stills(root: str | Path) -> list[Sequence]:
    """Every image below `root` as a sequence of one frame whose box is all zero: the region is drawn for each pair.

    An image in a folder `visible` is joined with that of the same stem in the `infrared` folder beside it, and is
    single where there is none; an image in `infrared` alone counts as thermal, any other as visible.

    Raises:
        InputError: no such folder, or no image in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds the images")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise InputError(f"{root}: holds no image ({', '.join(SUFFIXES)})")
    pairs: dict[Path, dict[str, Path]] = {}
    for path in paths:
        kind, scene = path.parent.name, path.parent.parent / path.stem
        if kind not in ("visible", "infrared"):
            kind, scene = "visible", path
        pairs.setdefault(scene, {})[kind] = path
    return [_still(scene.relative_to(root).as_posix(), sides) for scene, sides in pairs.items()]


def _still(name: str, sides: dict[str, Path]) -> Sequence:
    rgb, aux = (
        Frames(sides[kind].parent, (sides[kind].name,)) if kind in sides else None for kind in ("visible", "infrared")
    )
    return Sequence(name, rgb, aux, np.zeros((1, 4)))
