"""The whole run as one stream of batches, so that it can be taken up at any of them."""

import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from duotrack.errors import InputError
from duotrack.training.recipe import Recipe

Key = tuple[int, int]
"""(epoch, index): names a pair whatever the number of ranks or workers."""


@dataclass(frozen=True)
class Plan:
    """How many batches and optimiser steps a run has.

    `batches_per_epoch` (of one rank) leaves out an incomplete last batch; `batches` is the whole run's, cut to full
    optimiser steps.
    """

    batches_per_epoch: int
    batches: int
    steps: int

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps an epoch, not always whole."""
        return self.steps * self.batches_per_epoch / self.batches


def make_plan(recipe: Recipe, world: int = 1) -> Plan:
    """Count batches and steps of a recipe on `world` devices.

    Raises:
        InputError: an epoch has not one batch, or the run not one step.
    """
    per_epoch = recipe.pairs_per_epoch // world // recipe.batch_size
    accumulate = recipe.optimiser.accumulate
    steps = per_epoch * recipe.epochs // accumulate
    if steps == 0:
        raise InputError(
            f"{recipe.epochs} epochs of {recipe.pairs_per_epoch} pairs make no step of {accumulate} batches of "
            f"{recipe.batch_size} on {world} devices; take more pairs"
        )
    return Plan(batches_per_epoch=per_epoch, batches=steps * accumulate, steps=steps)


class RunSampler(Sampler[list[Key]]):
    """Batches of keys for one rank, from batch `start` of the run on; its length is always that of the whole run."""

    def __init__(self, plan: Plan, *, batch_size: int, rank: int = 0, world: int = 1, start: int = 0) -> None:
        self.plan, self.batch_size, self.rank, self.world, self.start = plan, batch_size, rank, world, start

    def __len__(self) -> int:
        """Batches of the whole run."""
        return self.plan.batches

    def __iter__(self) -> Iterator[list[Key]]:
        """Every `world`-th index of each epoch belongs to this rank."""
        for batch in range(self.start, self.plan.batches):
            epoch, place = divmod(batch, self.plan.batches_per_epoch)
            first = place * self.batch_size
            yield [(epoch, i * self.world + self.rank) for i in range(first, first + self.batch_size)]


class HeldOut(Sampler[list[Key]]):
    """The same keys every time: this rank's share of (0, 0 .. pairs - 1), the last batch as large as it is.

    Each rank has equally many batches; up to `world - 1` pairs at the end are left out.
    """

    def __init__(self, *, pairs: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.count, self.batch_size, self.rank, self.world = max(pairs // world, 1), batch_size, rank, world

    def __len__(self) -> int:
        """Batches of this rank."""
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        """In order."""
        keys = [(0, i * self.world + self.rank) for i in range(self.count)]
        return (keys[i : i + self.batch_size] for i in range(0, self.count, self.batch_size))


def make_loader(
    pairs: Dataset[dict[str, Tensor]], sampler: Sampler[list[Key]], *, workers: int, pin: bool = False
) -> DataLoader[dict[str, Tensor]]:
    """A loader over `sampler`'s batches; what they hold does not depend on `workers`."""
    return DataLoader(
        pairs,
        batch_sampler=sampler,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        worker_init_fn=_start_worker,
    )


def first_hand(error: InputError) -> InputError:
    """The error that a worker of a loader raised, without the traceback that the loader puts before its message."""
    return InputError(str(error).rpartition(f"{InputError.__module__}.{InputError.__name__}: ")[2].strip())


def _start_worker(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the trainer ends its workers when it has saved
    cv2.setNumThreads(0)  # the workers are the parallelism
    torch.set_num_threads(1)
