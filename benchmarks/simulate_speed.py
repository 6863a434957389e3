"""How fast scenes are rendered, on one core.

    python benchmarks/simulate_speed.py [--photos DIR ...] [--cutouts DIR ...] [--size WxH] [--pairs N] [--rounds N]

Printed are pairs a second as training draws them (a new scene each, template and search frame, both modalities),
frames a second of sequences (both modalities, before they are encoded), and the time to load the pictures. Processor
time is used, which other load does not lengthen much; the median and the fastest of the rounds are given.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from duotrack.datasets.simulation.assets import canvas_for, load_pool
from duotrack.datasets.simulation.pairs import draw_shots
from duotrack.datasets.simulation.settings import Scenes, Simulation
from duotrack.datasets.simulation.writer import Order, draw_take, frames_of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--cutouts", type=Path, nargs="*", default=[])
    parser.add_argument("--size", default="320x256")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    width, height = map(int, options.size.split("x"))
    scenes = Scenes(width=width, height=height)
    began = time.process_time()
    pool = load_pool(options.photos, options.cutouts, canvas=canvas_for(scenes))
    print(f"{options.size}; {pool.counts}, loaded in {time.process_time() - began:.1f} s of processor time")

    def feed(round_: int) -> int:
        drawn = (draw_shots(np.random.default_rng((round_, i)), pool, Simulation(scenes=scenes)) for i in range(each))
        return sum(not isinstance(shots, str) for shots in drawn)

    def sequences(round_: int) -> int:
        order = Order(sequences=4, frames=30, seed=round_)
        for index in range(4):
            take = draw_take(index, order, pool, scenes)
            for number in range(30):
                frames_of(take, index, number, round_)
        return 120

    each = max(options.pairs // options.rounds, 1)
    for name, work in (("pairs a second, feed", feed), ("frames a second, sequences", sequences)):
        rates = measured(work, options.rounds)
        print(f"{name:28} median {statistics.median(rates):6.1f}  fastest {max(rates):6.1f}")


def measured(work: Callable[[int], int], rounds: int) -> list[float]:
    """Things made a second of processor time in each round, after one that is not counted."""
    rates = []
    for round_ in range(rounds + 1):
        began = time.process_time()
        made = work(round_)
        rates.append(made / (time.process_time() - began))
    return rates[1:]


if __name__ == "__main__":
    main()
