"""Lightning's trainer, set up for one pass over the stream of a whole run."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from duotrack.errors import InputError
from duotrack.training.callbacks import AtomicCheckpoints, Checkpoints, Log
from duotrack.training.progress import Bar
from duotrack.training.recipe import Recipe
from duotrack.training.stream import Plan

Device = Literal["auto", "cpu", "cuda"]
_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def choose_accelerator(device: Device, devices: int, precision: str) -> Literal["cpu", "cuda"]:
    """The kind of device to use.

    Raises:
        InputError: there are not enough, or it cannot compute in the precision asked for.
    """
    there = torch.cuda.device_count()
    if devices < 1:
        raise InputError(f"--devices {devices}: take at least one")
    if device == "cuda" and there < devices:
        raise InputError(f"{devices} CUDA devices asked for, {there} found; lower --devices or use --device cpu")
    chosen: Literal["cpu", "cuda"] = "cuda" if device == "cuda" or (device == "auto" and there >= devices) else "cpu"
    if chosen == "cpu" and precision == "fp16":
        raise InputError("precision fp16 needs CUDA (its gradients need loss scaling); --set precision=bf16 or fp32")
    return chosen


def make_trainer(
    recipe: Recipe,
    plan: Plan,
    out: Path,
    *,
    accelerator: str,
    devices: int,
    check: bool,
    start: int = 0,
    uneven: bool = False,
) -> pl.Trainer:
    """A trainer that writes into `out`.

    Args:
        recipe: precision, clipping, accumulation, how often to log, save and check.
        plan: the run's batches.
        out: run folder.
        accelerator: "cpu" or "cuda".
        devices: processes; more than one train by DDP (gloo between CPUs, NCCL between GPUs).
        check: whether there are held-out pairs.
        start: batches that a resumed run has seen.
        uneven: samples may lack a modality, so that a step may leave some trained parameter without gradient.
    """
    bar = sys.stdout.isatty()
    every = max(1, min(round(recipe.validation.every_epochs * plan.batches_per_epoch), plan.batches))
    step = start // recipe.optimiser.accumulate
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy="auto" if devices == 1 else "ddp_find_unused_parameters_true" if uneven else "ddp",
        val_check_interval=every if check else None,
        limit_val_batches=None if check else 0,
        num_sanity_val_steps=0,
        **engine(recipe),
        logger=TensorBoardLogger(save_dir=out, name="", version="tensorboard", purge_step=step + 1),
        plugins=[AtomicCheckpoints()],
        callbacks=[
            Log(out / "metrics.csv", every=recipe.log_every, plan=plan, report=not bar),
            Checkpoints(out / "checkpoints", every=recipe.checkpoint_every),
            *([Bar(plan)] if bar else []),
        ],
        default_root_dir=out,
    )


def engine(recipe: Recipe) -> dict[str, Any]:
    """What a trainer of this recipe is told wherever it trains: arithmetic, clipping, and no habits of Lightning's."""
    return {
        "precision": _PRECISIONS[recipe.precision],
        "max_epochs": 1,  # the stream holds all epochs
        "accumulate_grad_batches": recipe.optimiser.accumulate,
        "gradient_clip_val": recipe.optimiser.clip or None,
        "use_distributed_sampler": False,
        "enable_checkpointing": False,  # ours are written whole or not at all
        "enable_model_summary": False,
        "enable_progress_bar": False,
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's remarks on our deliberate choices from the terminal; other warnings pass."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in ("pytorch_lightning", "lightning_fabric"):
                warnings.filterwarnings("ignore", module=module)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
