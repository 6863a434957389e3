"""Batches of training pairs."""

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from duotrack.errors import InputError
from duotrack.training.pairs import PairDataset
from duotrack.training.sampling import EpochSampler


def build_loader(
    pairs: PairDataset,
    *,
    batch_size: int,
    samples: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    drop_last: bool = True,
    prefetch: int = 4,
) -> DataLoader[dict[str, Tensor]]:
    """A loader of one rank's batches; what they hold does not depend on `workers`.

    Call `loader.sampler.set_epoch(epoch)` before each epoch (Lightning does, with `use_distributed_sampler=False`).

    Args:
        pairs: where the pairs come from.
        batch_size: pairs a batch of this rank.
        samples: pairs an epoch, over all ranks.
        workers: processes that read; 0 reads in this one.
        rank: number of this process in distributed training.
        world: number of such processes.
        drop_last: leave out an incomplete last batch (training does).
        prefetch: batches that each worker holds ready.

    Raises:
        InputError: an epoch has not one batch for a rank, or a rank that is not below `world`.
    """
    if drop_last and samples // world < batch_size:
        raise InputError(
            f"{samples} samples an epoch over {world} ranks give no batch of {batch_size}; take more samples"
        )
    return DataLoader(
        pairs,
        batch_size=batch_size,
        sampler=EpochSampler(samples=samples, rank=rank, world=world),
        num_workers=workers,
        drop_last=drop_last,
        prefetch_factor=prefetch if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
    )


def _start_worker(_worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
