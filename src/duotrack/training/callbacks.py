"""What happens beside the training steps: the log, checkpoints, weights. All of it survives being killed."""

import csv
import errno
import io
import os
import shutil
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from duotrack.files import atomic_path, write_text
from duotrack.training.module import TrackerModule
from duotrack.training.step import Batch
from duotrack.training.stream import Plan
from duotrack.training.summary import say

Row = dict[str, str]

_NEARLY_FULL = 1 << 20
"""Bytes left beside a checkpoint that could not be written, below which the disk is to blame."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written whole or not at all, and read without running code from them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside `path`, then rename; `OSError` where the disk is full."""
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # all that torch says of a disk that is full
                if shutil.disk_usage(temporary.parent).free > _NEARLY_FULL:
                    raise
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Read tensors and plain values only."""
        return dict(torch.load(path, map_location="cpu", weights_only=True))


class Log(pl.Callback):
    """Writes metrics.csv, and the same numbers to TensorBoard.

    A "train" row is the mean over `every` optimiser steps and over all ranks; a "val" row the mean over the held-out
    pairs. The unfinished window is part of a checkpoint, and rows written after it are cut off when a run resumes, so
    an interrupted run leaves the log of an uninterrupted one. `report`: print train rows in short too.
    """

    def __init__(self, path: Path, *, every: int, plan: Plan, report: bool) -> None:
        self.path = path
        self.every = every
        self.plan = plan
        self.report = report
        self._sums: dict[str, Tensor] = {}  # on the device: reading them each batch would make it wait
        self._count = 0
        self._started = time.monotonic()
        self._spent = 0.0
        self._first = 0

    def state_dict(self) -> dict[str, Any]:
        """The unfinished window and the seconds spent."""
        return {
            "sums": {name: float(value) for name, value in self._sums.items()},
            "count": self._count,
            "seconds": self._seconds(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the checkpoint stood."""
        self._sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in state_dict["sums"].items()}
        self._count = state_dict["count"]
        self._spent = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Cut off rows that the resumed run will write again."""
        self._started, self._first = time.monotonic(), trainer.global_step
        if trainer.is_global_zero and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if None not in row.values() and int(row["step"]) <= trainer.global_step]
            write_text(self.path, _csv(rows, list(reader.fieldnames or []), header=True))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add this batch to the window; write it out when it is full."""
        assert isinstance(pl_module, TrackerModule)
        for name, value in pl_module.parts.items():
            before = self._sums.get(name)
            self._sums[name] = value.double() if before is None else before.to(value.device) + value.double()
        self._count += 1
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and trainer.global_step % self.every == 0:
            mean = trainer.strategy.reduce(torch.stack(list(self._sums.values())), reduce_op="mean")
            values = dict(zip(self._sums, (mean / self._count).tolist(), strict=True))
            rates = {f"lr_{i}": group["lr"] for i, group in enumerate(trainer.optimizers[0].param_groups)}
            self._write(trainer, "train", values | rates)
            if trainer.is_global_zero and self.report:
                self._report(trainer, values)
            self._sums, self._count = {}, 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the means over the held-out pairs."""
        if trainer.global_step:
            values = {
                k.removeprefix("val/"): float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")
            }
            self._write(trainer, "val", values)
            if trainer.is_global_zero:
                say(f"step {trainer.global_step}: held-out IoU {values['iou']:.3f}, loss {values['task']:.3f}")

    def _report(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        left = (self.plan.steps - trainer.global_step) * (time.monotonic() - self._started)
        left /= max(trainer.global_step - self._first, 1)
        numbers = f"loss {values['total']:.3f}, IoU {values['iou']:.3f}"
        say(f"step {trainer.global_step}/{self.plan.steps}: {numbers}, about {timedelta(seconds=round(left))} left")

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._started

    def _write(self, trainer: pl.Trainer, split: str, values: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_metrics({f"{split}/{name}": value for name, value in values.items()}, trainer.global_step)
        row = {
            "step": str(trainer.global_step),
            "epoch": f"{trainer.global_step / self.plan.steps_per_epoch:.4f}",
            "seconds": f"{self._seconds():.1f}",
            "split": split,
            **{name: repr(value) for name, value in values.items()},
        }
        known = self.path.exists() and self.path.stat().st_size > 0
        columns = next(csv.reader([self.path.open(encoding="utf-8").readline()])) if known else list(row)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(_csv([row], columns, header=not known))


def _csv(rows: list[Row], columns: list[str], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class Stopped(Exception):
    """Training was asked to stop (Ctrl-C, SIGTERM) and did so after writing a checkpoint."""


class Checkpoints(pl.Callback):
    """Writes `last.ckpt` every so many optimiser steps, at the end and when asked to stop; `best.ckpt` by held-out IoU.

    A run resumes from `last.ckpt`. Killed in the middle of a check on held-out pairs, it does not repeat that check.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        self.folder = folder
        self.every = every
        self.best = float("-inf")
        self._stop = False
        self._handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The best IoU so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the checkpoint stood."""
        self.best = state_dict["best"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for Ctrl-C (a second one stops at once); look up the best check: it may be newer than `last.ckpt`."""
        best = self.folder / "best.ckpt"
        if best.exists():
            kept = torch.load(best, map_location="cpu", weights_only=True, mmap=True)
            self.best = max(self.best, kept["callbacks"][self.state_key]["best"])
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, _frame: Any) -> None:
        self._stop = True
        signal.signal(number, self._handlers[number])

    def _listen_no_more(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave signals as they were."""
        self._listen_no_more()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save after every `every`-th optimiser step, and when asked to stop.

        Raises:
            Stopped: after a signal, on all ranks at the same step.
        """
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        stop = stepped and trainer.strategy.reduce_boolean_decision(self._stop, all=False)
        if stop or (stepped and trainer.global_step % self.every == 0):
            trainer.save_checkpoint(self.folder / "last.ckpt")
        if stop:
            raise Stopped

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when the mean IoU on held-out pairs is the best so far."""
        iou: Tensor | None = trainer.callback_metrics.get("val/iou")
        if trainer.global_step and iou is not None and float(iou) > self.best:
            self.best = float(iou)
            trainer.save_checkpoint(self.folder / "best.ckpt")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the run."""
        self._listen_no_more()
        trainer.save_checkpoint(self.folder / "last.ckpt")
