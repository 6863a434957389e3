"""What is difficult about a simulated sequence, in the letters of LasHeR."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.missing import Mask
from duotrack.datasets.simulation.motion import STEP, Path
from duotrack.datasets.simulation.render import LEAST_SHOWN, Truth
from duotrack.datasets.simulation.scene import Scene
from duotrack.datasets.simulation.settings import Scenes
from duotrack.errors import InputError, nearest

MEANINGS = {
    "NO": "nothing hides the target",
    "PO": "part of it is hidden at times",
    "TO": "all of it is hidden at times",
    "OV": "it leaves the picture, half of it at least",
    "LI": "the visible picture is dark",
    "HI": "the visible picture is overexposed, or has glare",
    "AIV": "the visible light changes by a quarter within a second",
    "TC": "the target is about as warm as what is behind it",
    "LR": "it covers less than 400 pixels in a tenth of the frames at least",
    "SV": "its size changes by a factor of two",
    "ARC": "its aspect ratio changes by a factor of two",
    "DEF": "it bends or moves its parts",
    "FM": "it moves more than 20 pixels from a frame to the next, at 640 columns",
    "MB": "the visible picture is smeared over 2 pixels, at 320 columns, by the camera's motion",
    "SA": "there are others of its class about it",
    "CM": "the camera moves",
    "FL": "frames of a camera are lost or frozen",
}
"""Attributes and when a sequence has them."""

_FORCED: dict[str, dict[str, float]] = {
    "NO": {"occlusion": 0, "distractors": 0},
    "PO": {"occlusion": 1},
    "TO": {"occlusion": 1},
    "OV": {"leaves": 1},
    "LI": {"night": 1, "crossover": 0},
    "HI": {"light": 1, "night": 0},
    "AIV": {"light": 1},
    "TC": {"crossover": 1, "night": 0},
    "FM": {"fast": 1},
    "MB": {"blur": 1, "camera": 1, "fast": 1},
    "SA": {"distractors": 1},
    "CM": {"camera": 1},
    "FL": {"freezes": 0.15},
    "LR": {"largest": 0.04},
}


_EXCLUSIVE = {
    ("NO", "PO"): "nothing hides the target, and something does",
    ("NO", "TO"): "nothing hides the target, and something does",
    ("HI", "LI"): "the visible picture is overexposed, and dark",
    ("LI", "TC"): "neither camera would show the target",
}
_NEEDS = {
    "LI": ("night",),
    "HI": ("light",),
    "AIV": ("light",),
    "MB": ("blur", "camera"),
    "SA": ("distractors",),
    "CM": ("camera",),
    "FL": ("freezes",),
}
"""Shares without which no scene has an attribute."""
SECOND = 30
"""Frames."""


def check_wanted(wanted: frozenset[str], frames: int) -> None:
    """Refuse attributes that no sequence of so many frames has together.

    Raises:
        InputError: an attribute that is not known, two that exclude one another, or one that takes longer.
    """
    strange = sorted(wanted - set(MEANINGS))
    if strange:
        raise InputError(f"attribute {strange[0]!r} is not known{nearest(strange[0], list(MEANINGS))}")
    for pair, why in _EXCLUSIVE.items():
        if wanted.issuperset(pair):
            raise InputError(f"no sequence has the attributes {' and '.join(pair)}: {why}; ask for one of them")
    if "AIV" in wanted and frames <= SECOND:
        raise InputError(f"{frames} frames have no attribute AIV: light changes over {SECOND} frames; ask for more")


def forced(settings: Scenes, wanted: frozenset[str], *, lossy: bool = False) -> Scenes:
    """The settings with which scenes are likely to have the attributes `wanted`; what was given explicitly stays.

    Raises:
        InputError: a share is given as 0 without which an attribute cannot be; frozen frames count as such unless
            `lossy`, where frames are lost as well.
    """
    for name in sorted(wanted - ({"FL"} if lossy else set())):
        for key in _NEEDS.get(name, ()):
            if getattr(settings, key) == 0:
                raise InputError(f"no sequence has the attribute {name} where {key} is 0; leave {key} out, or {name}")
    return settings.model_copy(
        update={key: value for key, value in _changes(wanted).items() if key not in settings.model_fields_set}
    )


def against(settings: Scenes, wanted: frozenset[str]) -> list[str]:
    """What is set otherwise than the attributes `wanted` would have it, as `key=value`."""
    held = {key: (getattr(settings, key), value) for key, value in _changes(wanted).items()}
    return [f"{key}={have:g}" for key, (have, want) in held.items() if have != want]


def _changes(wanted: frozenset[str]) -> dict[str, float]:
    return {key: value for name in sorted(wanted) for key, value in _FORCED.get(name, {}).items()}


def pushed(scene: Scene, wanted: frozenset[str]) -> Scene:
    """The scene with a steady growth of the target's size or aspect ratio, where such attributes are wanted."""
    knots = scene.path.knots.copy()
    ramp = 0.9 * np.arange(len(knots)) * STEP / max(scene.length - STEP, STEP)
    for name, offset in (("SV", 2), ("ARC", 3)):
        if name in wanted:
            values = knots[:, scene.actors[0].channel + offset]
            values += ramp if values[-1] >= values[0] else -ramp
    return replace(scene, path=Path(knots))


def attributes_of(
    scene: Scene, truths: Sequence[Truth], shown: Sequence[tuple[int, int]], mask: Mask
) -> frozenset[str]:
    """The attributes of a sequence.

    Args:
        scene: what was rendered.
        truths: one a frame.
        shown: for each frame which moment each camera shows; an earlier one where it is frozen.
        mask: (N, 2) False where a modality is lost.
    """
    count, sensors, target = len(truths), scene.sensors, scene.actors[0]
    path = np.array([scene.path.at(time) for time in range(count)])
    present = np.array([truth.present for truth in truths])
    inside = np.array([truth.inside for truth in truths])
    open_to = np.array([truth.shown for truth in truths]) / np.maximum(inside, 1e-6)
    full = np.array([scene.full_box(target, time) for time in range(count)])
    size, aspect = np.sqrt(full[:, 2] * full[:, 3]), full[:, 2] / full[:, 3]
    steps = np.linalg.norm(np.diff(full[:, :2] + full[:, 2:] / 2, axis=0), axis=1) * 640 / scene.width
    # what the camera moves the middle of the picture
    cameras = [scene.camera(time) for time in range(count)]
    middle = np.array([scene.width / 2, scene.height / 2])
    pans = np.array(
        [
            np.linalg.norm(after[:, :2] @ np.linalg.solve(before[:, :2], middle - before[:, 2]) + after[:, 2] - middle)
            for before, after in pairwise(cameras)
        ]
    )
    light, late = path[:, 6], SECOND
    contrast = np.clip(path[:, 7], 0, 1) * abs(scene.excess) * sensors.heat_gain
    brightest = float(sensors.gain.mean()) * float(np.exp(light.max()))
    holds = {
        "NO": bool((open_to[inside > 0.1] > 0.97).all()),
        "PO": bool(((open_to < 0.9) & present).any()),
        "TO": bool(((open_to < LEAST_SHOWN) & (inside > 0.3)).any()),
        "OV": bool((inside < 0.5).any()),
        "LI": scene.night,
        "HI": brightest > 1.35 or sensors.glare is not None,
        "AIV": bool((np.abs(light[late:] - light[:-late]) > 0.25).any()),
        "TC": bool((contrast < 12).any()),
        "LR": float((size[present] ** 2 < 400).mean() if present.any() else 0) >= 0.1,
        "SV": _leaves(size, 2),
        "ARC": _leaves(aspect, 2),
        "DEF": target.pace > 0 or target.sway > 0.04,
        "FM": bool((steps > 20).any()),
        "MB": bool((sensors.exposure * pans > 2 * scene.width / 320).any()),
        "SA": any(actor.frame == "target" for actor in scene.actors),
        "CM": float(np.median(pans) if len(pans) else 0) > 0.15 * scene.width / 320,
        "FL": not mask.all() or any(times != (index, index) for index, times in enumerate(shown)),
    }
    return frozenset(name for name, held in holds.items() if held)


def _leaves(values: NDArray[np.float64], factor: float) -> bool:
    ratios = values / values[0]
    return bool(((ratios > factor) | (ratios < 1 / factor)).any())
