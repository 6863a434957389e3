"""How long each fusion expert takes for one pair of images.

    python benchmarks/fusion_speed.py [--size 640x512] [--threads 2] [--rounds 20] [--weights tpf-tiny=FILE ...]

Milliseconds a pair, the expert as it is used: luma, range checks and clamp included, frames already tensors. Experts
take turns, so that a busy machine slows all of them. Printed are the median and the fastest round, and the processor
time of all threads, which other load does not lengthen much. `--weights` adds the adapter of a model with trained
weights.
"""

import argparse
import statistics
import time

import torch

from duotrack.fusion.choose import ExpertSource, open_expert
from duotrack.fusion.expert import Expert
from duotrack.fusion.rules import RULES


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x512")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--weights", nargs="*", default=[], metavar="MODEL=FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, height = map(int, options.size.split("x"))
    sources = [ExpertSource(name=name) for name in RULES]
    for given in options.weights:
        name, _, path = given.partition("=")
        sources.append(ExpertSource(name=name, weights=path))
    experts = [expert for expert in map(open_expert, sources) if isinstance(expert, Expert)]
    generator = torch.Generator().manual_seed(0)
    rgb, thermal = (torch.rand(1, channels, height, width, generator=generator) for channels in (3, 1))
    times: dict[str, list[tuple[float, float]]] = {expert.name: [] for expert in experts}
    for _ in range(options.rounds + 1):
        for expert in experts:
            began, worked = time.perf_counter(), time.process_time()
            expert(rgb, thermal)
            times[expert.name].append((1000 * (time.perf_counter() - began), 1000 * (time.process_time() - worked)))
    print(f"{options.size}, {options.threads} threads, {options.rounds} rounds; ms a pair")
    print(f"{'':12} {'median':>8} {'fastest':>8} {'processor':>10}")
    for name, all_rounds in times.items():
        counted = all_rounds[1:]  # the first one warms up
        walls, works = zip(*counted, strict=True)
        print(f"{name:12} {statistics.median(walls):8.1f} {min(walls):8.1f} {statistics.median(works):10.1f}")


if __name__ == "__main__":
    main()
