"""Training speed: pairs a second, and how much of the time goes by waiting for them."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from duotrack.errors import InputError
from duotrack.frames import MODALITIES
from duotrack.models.zoo import model_spec
from duotrack.training.data import Folders, open_training, training_pairs, warn_of_drawn
from duotrack.training.fit import build_network, make_module
from duotrack.training.methods.table import method_of
from duotrack.training.optimise import split_parameters
from duotrack.training.recipe import Recipe
from duotrack.training.stream import RunSampler, first_hand, make_loader, make_plan
from duotrack.training.trainer import Device, choose_accelerator, engine, quiet
from duotrack.video.made import scene

WARM_UP = 3
"""Batches that are not counted: workers start, kernels are chosen."""


@dataclass(frozen=True)
class TrainingSpeed:
    """Measured batches after the warm-up, in order.

    `seconds` from the end of one batch to the end of the next; `waiting` the part of it that the trainer spent waiting
    for the loader. On CUDA the device may still be busy meanwhile: there it is the most that data can have cost.
    """

    device: str
    batch_size: int
    seconds: list[float]
    waiting: list[float]

    @property
    def pairs_per_second(self) -> float:
        """Over all measured batches."""
        return self.batch_size * len(self.seconds) / sum(self.seconds)

    @property
    def waiting_share(self) -> float:
        """Share of the time, 0 to 1."""
        return sum(self.waiting) / sum(self.seconds)


def measure_training(
    recipe: Recipe,
    folders: Folders | None = None,
    *,
    batches: int = 20,
    size: tuple[int, int] = (640, 512),
    device: Device = "auto",
) -> TrainingSpeed:
    """Train as `fit` does, from random weights, and write nothing.

    Args:
        recipe: what to train and how; its checkpoint is not needed.
        folders: where the data lie, and pictures for simulation; None for made-up sequences of JPEG files.
        batches: how many are measured, after `WARM_UP` others.
        size: width and height of made-up frames.
        device: as in `fit`.

    Raises:
        InputError: data or a device that cannot be used as asked.
    """
    if batches < 1:
        raise InputError(f"{batches} batches measure nothing; take at least 1")
    if folders is None:
        with TemporaryDirectory(prefix="duotrack-") as room:
            root = Path(room)
            for number in range(4):
                write_sequence(root / f"made{number}", size=size, frames=24)
            data = recipe.data.model_copy(update={"layout": "lasher", "split": None})
            made = recipe.model_copy(update={"data": data})
            return measure_training(made, Folders((root,)), batches=batches, device=device)
    accelerator = choose_accelerator(device, 1, recipe.precision)
    model = recipe.model.model_copy(update={"weights": None, "requires": "nothing"})
    count = (batches + WARM_UP) * recipe.optimiser.accumulate
    changes = {"model": model, "epochs": 1, "pairs_per_epoch": recipe.batch_size * count}
    recipe = recipe.model_copy(update=changes)
    plan = make_plan(recipe)
    geometry = model_spec(recipe.model.name).geometry
    sources = open_training(folders, recipe.data)
    warn_of_drawn(sources)
    pairs = training_pairs(sources, recipe.data, geometry, recipe.seed)
    net = build_network(recipe, load=False)
    groups = split_parameters(net, recipe.optimiser.learning_rates, recipe.freeze)
    sampler = RunSampler(plan, batch_size=recipe.batch_size)
    loader = _Watched(make_loader(pairs, sampler, workers=recipe.workers, pin=accelerator == "cuda"))
    marks = _Marks()
    with quiet():
        trainer = pl.Trainer(
            accelerator=accelerator, devices=1, logger=False, callbacks=[marks], limit_val_batches=0, **engine(recipe)
        )
        try:
            memory = method_of(recipe.model.name).memory(recipe.method)
            trainer.fit(make_module(recipe, net, groups, plan, memory=memory), train_dataloaders=loader)
        except InputError as error:
            raise first_hand(error) from error
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from error
    ends = marks.ends
    name = torch.cuda.get_device_name() if accelerator == "cuda" else "cpu"
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    return TrainingSpeed(name, recipe.batch_size, seconds[WARM_UP - 1 :], loader.waits[WARM_UP : len(ends)])


def write_sequence(folder: Path, *, size: tuple[int, int], frames: int) -> None:
    """A made-up sequence in LasHeR's layout, as JPEG files."""
    for modality, name in zip(MODALITIES, ("visible", "infrared"), strict=True):
        (folder / name).mkdir(parents=True)
        boxes = []
        for index, (image, box) in enumerate(scene(size, frames, modality)):
            jpeg = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
            (folder / name / f"{index:06d}.jpg").write_bytes(jpeg.tobytes())
            boxes.append(",".join(f"{value:g}" for value in box))
    (folder / "init.txt").write_text("\n".join(boxes) + "\n")


class _Watched:
    """A loader that notes how long each batch was waited for."""

    def __init__(self, loader: DataLoader[dict[str, Tensor]]) -> None:
        self.waits: list[float] = []
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        batches = iter(self._loader)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self.waits.append(time.perf_counter() - began)
            yield batch


class _Marks(pl.Callback):
    """The time at the end of every batch; of the last when the device is done with it."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Note the time."""
        if torch.cuda.is_available() and len(self.ends) + 1 in (WARM_UP, trainer.num_training_batches):
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
