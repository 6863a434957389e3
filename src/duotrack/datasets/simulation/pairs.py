"""Training pairs straight from scenes: only the two frames of a pair are rendered."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.assets import Pool
from duotrack.datasets.simulation.draw import draw_scene
from duotrack.datasets.simulation.render import thermal_frame, truth, visible_frame
from duotrack.datasets.simulation.scene import Scene
from duotrack.datasets.simulation.settings import Simulation
from duotrack.frames import FramePair

TEMPLATE_SHOWN, SEARCH_SHOWN = 0.6, 0.25
"""Share of the target's area that is in view at least, in the template and in the search frame."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One rendered frame and the target's (4,) `xywh` box in it, in pixels."""

    pair: FramePair
    box: NDArray[np.float64]


def draw_shots(
    rng: np.random.Generator, pool: Pool, settings: Simulation, *, within: int | None = None
) -> dict[str, Shot] | str:
    """The frames of a training pair of a new scene, or why this draw gives none.

    Args:
        rng: draws everything.
        pool: the pictures.
        settings: what scenes hold and how far frames are apart.
        within: also give a frame "dynamic", at most so many frames before the search frame.

    Returns:
        "template" and "search", the latter up to `settings.max_gap` frames later; the target is in view in all of them.
    """
    gap = int(np.ceil(settings.max_gap * rng.random() ** 1.5)) or 1
    scene = draw_scene(rng, pool, settings.scenes, gap + 1, crossing=float(gap))
    times = {"template": 0, "search": gap}
    if within is not None:
        times["dynamic"] = int(rng.integers(max(gap - within, 0), gap))
    found = _in_view(scene, times)
    if found is None:  # what hides it goes away: the scene is worth more than its occluder
        scene = replace(scene, actors=tuple(actor for actor in scene.actors if not actor.front))
        found = _in_view(scene, times)
    if found is None:
        return "simulation: the target is out of view"
    lacks = rng.random() < settings.dropouts
    lost = int(rng.integers(2))
    frozen = rng.random() < settings.scenes.freezes
    shots = {}
    for name, time in times.items():
        late = min(time, int(rng.integers(1, 6))) if frozen and name == "search" else 0
        rgb = None if lacks and lost == 0 else visible_frame(scene, time, rng)
        aux = None if lacks and lost == 1 else thermal_frame(scene, time - late, rng)
        shots[name] = Shot(FramePair(time, rgb, aux), found[name])
    return shots


def _in_view(scene: Scene, times: dict[str, int]) -> dict[str, NDArray[np.float64]] | None:
    boxes = {}
    for name, time in times.items():
        what = truth(scene, time)
        if what.shown < (TEMPLATE_SHOWN if name == "template" else SEARCH_SHOWN) or min(what.box[2:]) < 2:
            return None
        boxes[name] = what.box
    return boxes
