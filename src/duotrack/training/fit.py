"""Training from a recipe to weights: builds everything, then lets Lightning run it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import nn

from duotrack.errors import InputError
from duotrack.models.ckd import CKD
from duotrack.models.zoo import model_spec
from duotrack.training import folder
from duotrack.training.callbacks import AtomicCheckpoints, Checkpoints, Log
from duotrack.training.data import Folders, describe, open_folders, training_pairs, validation_pairs
from duotrack.training.methods.ckd import check, ckd_step, keep_content_only
from duotrack.training.module import TrackerModule
from duotrack.training.optimise import split_parameters
from duotrack.training.recipe import Recipe
from duotrack.training.stream import HeldOut, Plan, RunSampler, make_loader, make_plan
from duotrack.training.summary import say, summarise
from duotrack.weights.build import fit as fit_keys
from duotrack.weights.read import read_checkpoint
from duotrack.weights.report import load_weights
from duotrack.weights.safetensor import save_weights

Device = Literal["auto", "cpu", "cuda"]
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def fit(
    recipe: Recipe,
    train: Folders,
    out: Path,
    *,
    validation: Folders | None = None,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    net: CKD | None = None,
) -> Path:
    """Train, and write the run folder `out`.

    Args:
        recipe: what to train and how.
        train: where the training data lie.
        out: a new or empty folder; with `resume` that of a run that was interrupted (or never started).
        validation: where held-out data lie; None = no checks and no `best.ckpt`.
        resume: continue from `checkpoints/last.ckpt`; gives the losses of an uninterrupted run.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
        devices: processes that train together (DDP), one a device.
        net: a network to train instead of the recipe's model, for experiments with sizes; it brings its own values.

    Returns:
        The path of the final weights (inference form).

    Raises:
        InputError: data, weights, devices or a folder that cannot be used as asked.
    """
    accelerator = choose_accelerator(device, devices, recipe.precision)
    spec = model_spec(recipe.model.name)
    sources = open_folders(train, recipe.data, recipe.data.split)
    held_out = None if validation is None else open_folders(validation, recipe.data, recipe.data.validation_split)
    facts = {
        "data": describe(sources),
        "validation": None if held_out is None else describe(held_out),
        "devices": devices,
        "seed": recipe.seed,
    }
    checkpoint = out / "checkpoints" / "last.ckpt"
    start = 0
    if rank_zero_only.rank == 0:  # the other ranks begin after this one has written the folder
        if resume and (out / "run.json").exists():
            folder.check_folder(out, recipe, facts)
        else:
            folder.start_folder(out, recipe, facts)
    resuming = resume and checkpoint.exists()
    plan = make_plan(recipe, devices)
    if resuming:
        start = batches_done(checkpoint)
    net = build_network(recipe, load=not resuming) if net is None else net
    groups = split_parameters(net, recipe.optimiser.learning_rates, recipe.freeze)
    if rank_zero_only.rank == 0:
        summarise(recipe, groups, facts, plan, out=out, start=start)
    if start < plan.batches:
        module = TrackerModule(
            net=net,
            groups=groups,
            step=partial(ckd_step, settings=recipe.method),
            check=partial(check, settings=recipe.method),
            recipe=recipe,
            plan=plan,
            devices=devices,
        )
        rank, pin = rank_zero_only.rank or 0, accelerator == "cuda"
        pairs = training_pairs(sources, recipe.data, spec.geometry, recipe.seed)
        sampler = RunSampler(plan, batch_size=recipe.batch_size, rank=rank, world=devices, start=start)
        checks = None
        if held_out is not None:
            held = validation_pairs(held_out, recipe.data, spec.geometry, recipe.seed)
            share = HeldOut(pairs=recipe.validation.pairs, batch_size=recipe.batch_size, rank=rank, world=devices)
            checks = make_loader(held, share, workers=recipe.workers, pin=pin)
        with quiet():
            trainer = make_trainer(recipe, plan, out, accelerator=accelerator, devices=devices, check=checks is not None)
            trainer.fit(
                module,
                train_dataloaders=make_loader(pairs, sampler, workers=recipe.workers, pin=pin),
                val_dataloaders=checks,
                ckpt_path=str(checkpoint) if resuming else None,
            )
        if trainer.interrupted:
            raise KeyboardInterrupt
    else:
        state = AtomicCheckpoints().load_checkpoint(checkpoint)["state_dict"]
        net.load_state_dict({key.removeprefix("net."): value for key, value in state.items()})
    weights = out / "weights.safetensors"
    if rank_zero_only.rank == 0:
        write_weights(net, weights, recipe)
        say(f"weights: {weights}")
    return weights


def build_network(recipe: Recipe, *, load: bool = True) -> CKD:
    """The recipe's network with its initial values: random ones from the seed, then the checkpoint's.

    Raises:
        InputError: the recipe needs a checkpoint and has none, or it does not fit.
    """
    spec, settings = model_spec(recipe.model.name), recipe.model
    torch.manual_seed(recipe.seed)
    net = spec.build(elimination=settings.elimination, teachers=recipe.method.teachers, drop_path=settings.drop_path)
    if recipe.method.content_only:
        keep_content_only(net)
    if settings.weights is None:
        if settings.weights_required:
            raise InputError("this recipe starts from trained weights; name the file with --set model.weights=FILE")
        return net
    if load:
        checkpoint = read_checkpoint(settings.weights, teachers=recipe.method.teachers)
        fitted = fit_keys(checkpoint, settings.name, teachers=recipe.method.teachers)
        load_weights(net, fitted.tensors, allow_missing=fitted.keeps)
    return net


def write_weights(net: nn.Module, path: Path, recipe: Recipe) -> None:
    """Inference form, and beside it the training form where there are teachers (stage 2 may ask for it)."""
    about = {"model": recipe.model.name, "elimination": recipe.model.elimination}
    save_weights(path, net, **about)
    if recipe.method.teachers:
        save_weights(path.with_name(f"{path.stem}-training{path.suffix}"), net, form="training", **about)


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


def batches_done(checkpoint: Path) -> int:
    """Batches of one rank that a checkpoint has seen."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return int(state["batches_done"])


def make_trainer(recipe: Recipe, plan: Plan, out: Path, *, accelerator: str, devices: int, check: bool) -> pl.Trainer:
    """Lightning's trainer for one pass over the stream of the whole run."""
    every = max(1, min(round(recipe.validation.every_epochs * plan.batches_per_epoch), plan.batches))
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=PRECISIONS[recipe.precision],
        max_epochs=1,  # the stream holds all epochs
        val_check_interval=every if check else None,
        limit_val_batches=None if check else 0,
        num_sanity_val_steps=0,
        accumulate_grad_batches=recipe.optimiser.accumulate,
        gradient_clip_val=recipe.optimiser.clip or None,
        use_distributed_sampler=False,
        enable_checkpointing=False,  # ours are written whole or not at all
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=TensorBoardLogger(save_dir=out, name="", version="tensorboard"),
        plugins=[AtomicCheckpoints()],
        callbacks=[
            Log(out / "metrics.csv", every=recipe.log_every, plan=plan),
            Checkpoints(out / "checkpoints", every=recipe.checkpoint_every),
        ],
        default_root_dir=out,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's remarks on our deliberate choices from the terminal; warnings of other kinds pass."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for module in ("pytorch_lightning", "lightning_fabric"):
            warnings.filterwarnings("ignore", module=module)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
