"""What `duotrack demo` tracks: two recorded clips of the package, and one that is rendered."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from duotrack.cli.following import Sift
    from duotrack.video import PairedSource

RECORDED = {"thermal": "helicopter_thermal", "visible": "drone_visible"}
TITLES = {
    "thermal": "a thermal camera alone",
    "visible": "a visible camera alone",
    "dropout": "both cameras, rendered; half way the thermal one drops out",
}
FRAMES, SEED = 160, 9
"""Of the clip that is rendered."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip that is open: its frames, the labelled box of each (N, 4), and what takes images out of it."""

    source: "PairedSource"
    truth: "NDArray[np.float64]"
    sift: "Sift"


@contextmanager
def open_clip(name: str) -> Iterator[Clip]:
    """One of `TITLES`, by name."""
    if name in RECORDED:
        from importlib.resources import as_file, files

        from duotrack.video import open_source

        data = files("duotrack").joinpath("demo")
        truth = read_boxes(data.joinpath(f"{RECORDED[name]}.txt").read_text())
        with as_file(data.joinpath(f"{RECORDED[name]}.mp4")) as video:
            rgb, aux = (None, video) if name == "thermal" else (video, None)
            with open_source(rgb, aux) as source:
                yield Clip(source, truth, iter)
        return
    with rendered() as clip:
        yield clip


@contextmanager
def rendered(frames: int = FRAMES) -> Iterator[Clip]:
    """A simulated pair whose thermal images are missing from the middle on; pictures are drawn, none is read."""
    import numpy as np

    from duotrack.datasets.simulation.assets import canvas_for, load_pool
    from duotrack.datasets.simulation.settings import Scenes
    from duotrack.datasets.simulation.writer import Order, draw_take, frames_of
    from duotrack.frames import Image
    from duotrack.video.masked import masked
    from duotrack.video.pair import pair
    from duotrack.video.stream import Frame, Stream

    # plain conditions, another of its class beside it, a moving camera: the loss of a camera is what is to be seen
    settings = Scenes(
        night=0.0,
        light=0.0,
        crossover=0.0,
        thermal_damage=0.0,
        freezes=0.0,
        sky=0.0,
        leaves=0.0,
        fast=0.0,
        occlusion=0.0,
        twins=0.0,
        smallest=30.0,
        largest=0.22,
    )
    order = Order(sequences=1, frames=frames, seed=SEED, wanted=frozenset({"SA", "CM", "NO"}))
    take = draw_take(0, order, load_pool(canvas=canvas_for(settings)), settings)
    held: dict[int, tuple[Image, Image]] = {}

    def stream(side: int) -> Iterator[Frame]:
        for number in range(frames):
            if number not in held:
                held.clear()
                held[number] = frames_of(take, 0, number, SEED)
            yield Frame(number, held[number][side], number / 30)

    size = (settings.width, settings.height)
    sides = [
        Stream(f"rendered {name}", "rendered", size, 30.0, frames, stream(side), lambda: None)
        for side, name in enumerate(("visible", "thermal"))
    ]
    there = np.ones((frames, 2), np.bool_)
    there[frames // 2 :, 1] = False
    truth = np.stack([each.box for each in take.truths])
    with pair(*sides) as source:
        yield Clip(source, truth, lambda pairs: masked(pairs, there, name="the demo's mask"))


def read_boxes(text: str) -> "NDArray[np.float64]":
    """(N, 4) of the lines x,y,w,h."""
    import numpy as np

    return np.array([line.split(",") for line in text.split()], np.float64)
