"""A progress bar over the whole run, for terminals."""

from typing import Any

import pytorch_lightning as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from duotrack.training.module import TrackerModule
from duotrack.training.step import Batch
from duotrack.training.stream import Plan
from duotrack.training.summary import CONSOLE


class Bar(pl.Callback):
    """Optimiser steps done, loss and IoU of the last batch, time gone and left."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=CONSOLE,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show it."""
        if trainer.is_global_zero:
            self._bar.add_task("training", total=self.plan.steps, completed=trainer.global_step)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Move it after each step."""
        assert isinstance(pl_module, TrackerModule)
        if trainer.is_global_zero and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            loss, iou = float(pl_module.parts["total"]), float(pl_module.parts["iou"])
            text = f"loss {loss:.3f}, IoU {iou:.3f}"
            self._bar.update(self._bar.task_ids[0], completed=trainer.global_step, description=text)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave it as it is."""
        self._bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._bar.stop()
