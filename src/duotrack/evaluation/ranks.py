"""Sharing a benchmark run between the processes that `torchrun` starts, on one machine or many."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from duotrack.errors import InputError

_PATIENCE = timedelta(days=7)
"""How long a rank waits for the slowest one; one that dies is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `world`, and number `local` on its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    def share(self, value: Any) -> Any:
        """What rank 0 has, for all; waits for it."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """What every rank has, in their order, for all; waits for the last."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """The place of this process among those that `torchrun` started; alone where it did not.

    Raises:
        InputError: RANK, WORLD_SIZE or LOCAL_RANK is no number, or they contradict each other.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_RANK", str(rank)))
    except ValueError as error:
        raise InputError(f"RANK, WORLD_SIZE and LOCAL_RANK are numbers that torchrun sets ({error})") from error
    if not 0 <= rank < world or local < 0:
        raise InputError(f"RANK {rank} of WORLD_SIZE {world}, LOCAL_RANK {local}: start the processes with torchrun")
    if world == 1:
        yield Ranks()
        return
    import torch.distributed as dist

    try:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    except (ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"the {world} ranks cannot meet ({first}); start the processes with torchrun") from error
    try:
        yield Ranks(rank, world, local)
    finally:
        dist.destroy_process_group()


def shard(lengths: Mapping[str, int], world: int) -> list[list[str]]:
    """Deal sequences to `world` ranks by their number of frames: longest first, each to the least loaded rank.

    Depends on names and lengths alone, so that every rank knows all hands without asking.
    """
    hands: list[list[str]] = [[] for _ in range(world)]
    loads = [0] * world
    for name in sorted(lengths, key=lambda name: (-lengths[name], name)):
        least = loads.index(min(loads))
        hands[least].append(name)
        loads[least] += lengths[name]
    return hands
