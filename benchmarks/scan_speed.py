"""The selective scan: chunks against the sequential loop and against mambapy, in time and in memory.

    python benchmarks/scan_speed.py [--length 4096] [--rounds 10] [--threads 2] [--no-memory] [--json FILE]

Time: the whole function (exponentials, scan, sum over states) on two threads, forward alone and forward with backward;
rounds alternate between the candidates. Given are the median and the best of the wall times, and the median of the
processor times, which other processes do not add to (with several threads it counts their waiting, too). On a machine
whose cores are all taken two threads that wait for each other at every step (chunks do, the loop's steps are too small
to be shared out) lose a whole time slice whenever one of them is put aside: look at the best, or at one thread's
processor time. mambapy is the call that its own MambaBlock makes.

Memory: the largest sum of bytes that are alive at once beyond the inputs, counted by torch's profiler from every
allocation and release of a forward and backward pass. Two sizes: one scan, and as many scans one after the other as an
adapter's three blocks make (both directions of each), where what each keeps for the backward pass adds up.
"chunk, keep" holds the states of every step (recompute=False); loop and mambapy hold decays and inputs of every step
as well.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from duotrack.files import write_text
from duotrack.models.scan import loop_scan, selective_scan

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def mambapy_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """mambapy's parallel scan as its MambaBlock calls it."""
    from mambapy.mamba import MambaBlock

    y: Tensor = MambaBlock.selective_scan(None, u, delta, a, b, c, torch.zeros(u.shape[-1]))
    return y


CANDIDATES: dict[str, Scan] = {
    "chunk": selective_scan,
    "chunk, keep": partial(selective_scan, recompute=False),
    "loop": loop_scan,
    "mambapy": mambapy_scan,
}


def inputs(length: int, width: int, states: int) -> tuple[Tensor, ...]:
    """Unit-scale arguments of a scan over a batch of one."""
    torch.manual_seed(0)
    u = torch.randn(1, length, width)
    delta = F.softplus(torch.randn(1, length, width) - 3)
    a = -torch.arange(1.0, states + 1).repeat(width, 1)
    b, c = torch.randn(1, length, states), torch.randn(1, length, states)
    return tuple(x.requires_grad_() for x in (u, delta, a, b, c))


def forward(scan: Scan, given: tuple[Tensor, ...]) -> None:
    """One pass without gradients."""
    with torch.no_grad():
        scan(*given)


def both(scan: Scan, given: tuple[Tensor, ...], scans: int = 1) -> None:
    """`scans` scans, each fed by the one before, and their gradients."""
    y, *rest = given
    for _ in range(scans):
        y = scan(y, *rest)
    torch.autograd.grad(y.sum(), given)


def seconds(run: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor time of one run."""
    begin, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - begin, time.process_time() - busy


def peak(run: Callable[[], None]) -> int:
    """Most bytes that `run` has allocated and not yet released, at any moment."""
    run()  # what is allocated once and for good
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    changes = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    alive = most = 0
    for event in sorted(changes, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--width", type=int, default=64, help="channels inside a block")
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--scans", type=int, default=6, help="scans in a row for the second measure of memory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given = inputs(options.length, options.width, options.states)
    times: dict[str, dict[str, list[tuple[float, float]]]] = {name: {"forward": [], "both": []} for name in CANDIDATES}
    for turn in range(options.rounds + 1):
        for name, scan in CANDIDATES.items():
            for what, run in (("forward", forward), ("both", both)):
                took = seconds(partial(run, scan, given))
                if turn:  # the first one warms up
                    times[name][what].append(took)
    state = options.length * options.width * options.states * 4
    made: dict[str, dict[str, float]] = {}
    for name, scan in CANDIDATES.items():
        made[name] = {}
        for what in ("forward", "both"):
            walls, busy = zip(*times[name][what], strict=True)
            values = {"median": statistics.median(walls), "best": min(walls), "cpu": statistics.median(busy)}
            made[name] |= {f"{what}_{key}_ms": 1000 * value for key, value in values.items()}
        if options.memory:
            made[name]["peak_1_MB"] = peak(partial(both, scan, given)) / 1e6
            made[name][f"peak_{options.scans}_MB"] = peak(partial(both, scan, given, options.scans)) / 1e6
    print(f"L={options.length}, {options.width} channels, {options.states} states, {options.threads} threads; ", end="")
    print(f"the states of every step: {state / 1e6:.1f} MB a scan")
    for name, row in made.items():
        print(f"{name:12s}", "  ".join(f"{key} {value:8.1f}" for key, value in row.items()))
    if options.json:
        write_text(options.json, json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
