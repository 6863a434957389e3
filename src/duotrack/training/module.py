"""The one LightningModule: a network, a method's training step, an optimiser. Methods differ in the step alone."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from duotrack.training.optimise import Group, make_optimiser, rest_frozen, rest_statistics, schedule_factor
from duotrack.training.recipe import Recipe
from duotrack.training.step import Batch, StepLosses
from duotrack.training.stream import Plan

Step = Callable[..., StepLosses]
Check = Callable[[nn.Module, Batch], dict[str, Tensor]]


class TrackerModule(pl.LightningModule):
    """Trains `net` by `step`.

    Args:
        net: the network.
        groups: its parameters sorted by learning rate (`optimise.split_parameters`).
        step: (net, batch, epoch=...) -> losses in training mode, the epoch counting from 0 in fractions.
        check: (net, batch) -> scalars in evaluation mode, for held-out pairs.
        recipe: optimiser, schedule, seed and frozen mode are read from it.
        plan: batches and optimiser steps of the run.
        devices: processes that train together.
        memory: what the method keeps from step to step; goes into checkpoints and to `step`.
    """

    def __init__(
        self,
        *,
        net: nn.Module,
        groups: list[Group],
        step: Step,
        check: Check,
        recipe: Recipe,
        plan: Plan,
        devices: int = 1,
        memory: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.memory = memory
        self.parts: dict[str, Tensor] = {}
        self._groups = groups
        self._step = step
        self._check = check
        self._recipe = recipe
        self._plan = plan
        self._devices = devices
        self._batches = 0

    def train(self, mode: bool = True) -> "TrackerModule":
        """Training mode, but for frozen parts and batch norms where the recipe lets them rest."""
        super().train(mode)
        if mode and self._recipe.frozen_mode == "eval":
            rest_frozen(self.net)
        if mode and self._recipe.fix_batch_norm:
            rest_statistics(self.net)
        return self

    def on_train_start(self) -> None:
        """Lightning takes every module's mode as it finds it, and brings it back after a check on held-out pairs."""
        self.train()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make this batch's masks and dropped paths a function of (seed, rank, batch): a resumed run repeats them."""
        torch.manual_seed((self._recipe.seed * 1_000_003 + batch_idx * self._devices + self.global_rank) % 2**63)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss that is optimised; its parts stay in `parts` for the log."""
        kept = {} if self.memory is None else {"memory": self.memory}
        losses = self._step(self.net, batch, epoch=batch_idx / self._plan.batches_per_epoch, **kept)
        self.parts = losses.parts
        self._batches = batch_idx + 1
        return losses.total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log means over the held-out pairs of all ranks as `val/...`."""
        parts = {f"val/{name}": part for name, part in self._check(self.net, batch).items()}
        self.log_dict(parts, logger=False, sync_dist=self._devices > 1, batch_size=len(batch["box"]))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of the whole gradient, here: Lightning refuses a fused optimiser though nothing is scaled."""
        if gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note how far the stream of batches was read."""
        checkpoint["batches_done"] = self._batches

    def configure_optimizers(self) -> Any:
        """AdamW and the schedule, stepped once an optimiser step."""
        optimiser = make_optimiser(self._groups, self._recipe.optimiser, fused=self._recipe.precision != "fp16")
        plan = self._plan
        factor = schedule_factor(self._recipe.schedule, steps=plan.steps, steps_per_epoch=plan.steps_per_epoch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
