"""Training from a recipe to weights: builds everything, then lets Lightning run it."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import nn

from duotrack.errors import InputError
from duotrack.fusion.cache import FrameCache
from duotrack.models.parameters import unused_parts
from duotrack.models.zoo import MODELS, elimination_of, model_spec
from duotrack.training import folder
from duotrack.training.callbacks import AtomicCheckpoints
from duotrack.training.data import (
    Folders,
    describe,
    hold_out,
    open_folders,
    open_training,
    training_pairs,
    validation_pairs,
    warn_of_drawn,
)
from duotrack.training.methods.table import method_of
from duotrack.training.module import TrackerModule
from duotrack.training.optimise import Group, split_parameters
from duotrack.training.pairs import Source, lacks_one
from duotrack.training.recipe import Recipe
from duotrack.training.stream import HeldOut, Plan, RunSampler, first_hand, make_loader, make_plan
from duotrack.training.summary import say, summarise
from duotrack.training.trainer import Device, choose_accelerator, make_trainer, quiet
from duotrack.weights.build import fit as fit_keys
from duotrack.weights.build import packaged_weights
from duotrack.weights.keymap import shown
from duotrack.weights.read import read_checkpoint
from duotrack.weights.report import load_weights
from duotrack.weights.safetensor import save_weights
from duotrack.weights.task import COLOURS_KEY, CROPS_KEY, KEY, stated_crops
from duotrack.weights.tpf import check_agreement

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """What one run has in hand before it trains; `start` counts the batches that a checkpoint has seen.

    `memory` and `caches`: see `methods.table.Method`.
    """

    recipe: Recipe
    train: list[Source]
    held_out: list[Source] | None
    out: Path
    accelerator: str
    devices: int
    plan: Plan
    start: int
    memory: nn.Module | None
    caches: tuple[FrameCache, ...]

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoints" / "last.ckpt"


def fit(
    recipe: Recipe,
    train: Folders,
    out: Path,
    *,
    validation: Folders | None = None,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    net: nn.Module | None = None,
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
        net: a network to train instead of the recipe's model, for experiments with sizes; it brings its own values and
            takes the crops of the recipe's model.

    Returns:
        The path of the final weights (inference form).

    Raises:
        InputError: data, weights, devices or a folder that cannot be used as asked.
        Stopped: Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    accelerator = choose_accelerator(device, devices, recipe.precision)
    plan = make_plan(recipe, devices)
    sources = open_training(train, recipe.data)
    held_out = None if validation is None else open_folders(validation, recipe.data, recipe.data.validation_split)
    if recipe.data.hold_out_every is not None and held_out is None:
        sources, held_out = hold_out(sources, recipe.data.hold_out_every)
    first = _rank() == 0
    if first:
        warn_of_drawn(sources)
    resuming = resume and (out / "checkpoints" / "last.ckpt").exists()
    net = build_network(recipe, load=not resuming) if net is None else net
    unused = unused_parts(net)
    method = method_of(recipe.model.name)
    # what they name must be there before there is a run folder
    memory, caches = method.memory(recipe.method), method.caches(recipe.method)
    groups = split_parameters(net, recipe.optimiser.learning_rates, recipe.freeze)
    facts = {
        "data": describe(sources),
        "validation": None if held_out is None else describe(held_out),
        "devices": devices,
        "seed": recipe.seed,
    }
    if first:  # the other ranks begin after this one has written the folder
        claim = folder.check_folder if resume and (out / "run.json").exists() else folder.start_folder
        claim(out, recipe, facts)
    start = _batches_done(out / "checkpoints" / "last.ckpt") if resuming else 0
    run = _Run(recipe, sources, held_out, out, accelerator, devices, plan, start, memory, caches)
    if first:
        summarise(recipe, groups, facts, plan, unused=unused, out=out, start=start)
    if start < plan.batches:
        _train(run, net, groups)
    else:
        state = AtomicCheckpoints().load_checkpoint(run.checkpoint)["state_dict"]
        ours = {key: value for key, value in state.items() if key.startswith("net.")}
        net.load_state_dict({key.removeprefix("net."): value for key, value in ours.items()})
    weights = out / "weights.safetensors"
    if first:
        write_weights(net, weights, recipe)
        say(f"weights: {weights}")
    return weights


def _train(run: _Run, net: nn.Module, groups: list[Group]) -> None:
    recipe, geometry = run.recipe, model_spec(run.recipe.model.name).geometry
    module = make_module(recipe, net, groups, run.plan, devices=run.devices, memory=run.memory)
    loader = partial(make_loader, workers=recipe.workers, pin=run.accelerator == "cuda")
    share: dict[str, Any] = {"batch_size": recipe.batch_size, "rank": _rank(), "world": run.devices}
    pairs = training_pairs(run.train, recipe.data, geometry, recipe.seed, caches=run.caches)
    checks = None
    if run.held_out is not None:
        held = validation_pairs(run.held_out, recipe.data, geometry, recipe.seed)
        checks = loader(held, HeldOut(pairs=recipe.validation.pairs, **share))
    with quiet():
        trainer = make_trainer(
            recipe,
            run.plan,
            run.out,
            accelerator=run.accelerator,
            devices=run.devices,
            check=checks is not None,
            start=run.start,
            uneven=recipe.data.augmentation.drop_modality > 0 or any(lacks_one(source) for source in run.train),
        )
        try:
            trainer.fit(
                module,
                train_dataloaders=loader(pairs, RunSampler(run.plan, start=run.start, **share)),
                val_dataloaders=checks,
                ckpt_path=str(run.checkpoint) if run.start else None,
            )
        except InputError as error:
            raise first_hand(error) from error


def make_module(
    recipe: Recipe,
    net: nn.Module,
    groups: list[Group],
    plan: Plan,
    *,
    devices: int = 1,
    memory: nn.Module | None = None,
) -> TrackerModule:
    """`net` with the training step of the recipe's method, and what that keeps from step to step."""
    method = method_of(recipe.model.name)
    return TrackerModule(
        net=net,
        groups=groups,
        step=partial(method.step, settings=recipe.method),
        check=partial(method.check, settings=recipe.method),
        recipe=recipe,
        plan=plan,
        devices=devices,
        memory=memory,
    )


def build_network(recipe: Recipe, *, load: bool = True) -> nn.Module:
    """The recipe's network with its initial values: random ones from the seed, then the checkpoint's.

    Raises:
        InputError: the recipe needs a checkpoint and has none, or it does not fit.
    """
    spec, settings = model_spec(recipe.model.name), recipe.model
    options = method_of(spec.name).options(recipe.method)
    teachers = bool(options.get("teachers"))
    torch.manual_seed(recipe.seed)
    net = spec.build(elimination=elimination_of(spec, settings.elimination), drop_path=settings.drop_path, **options)
    if settings.weights is None and settings.requires != "nothing":
        raise InputError("this recipe starts from a checkpoint; name the file with --set model.weights=FILE")
    if load and settings.weights is None and recipe.freeze:
        frozen = ", ".join(recipe.freeze)
        log.warning(
            f"no checkpoint to start from: {frozen} stay random for good; --set model.weights=FILE, or freeze=[]"
        )
    if load and settings.weights is not None:
        named = spec if settings.weights == "packaged" else MODELS.get(settings.weights)
        source = Path(settings.weights) if named is None else packaged_weights(named)
        if source is None:
            assert named is not None  # else the source is a path
            raise InputError(f"the package holds no weights of {named.name}; name a file with --set model.weights=FILE")
        checkpoint = read_checkpoint(source, teachers=teachers)
        fitted = fit_keys(checkpoint, settings.name, teachers=teachers)
        if settings.requires == "trained" and not fitted.trained:
            raise InputError(
                f"{settings.weights} holds {checkpoint.kind} weights, a start for training; this recipe continues a "
                f"trained {settings.name}, for example the weights of its stage 1"
            )
        check_agreement(net, checkpoint.metadata)
        wired = "released" if checkpoint.kind == "patrack" else checkpoint.metadata.get("routing")
        if wired is not None and wired != options.get("routing", wired):
            log.warning("%s was trained with routing %s, this run has %s", source, shown(wired), options["routing"])
        load_weights(net, fitted.tensors, allow_missing=fitted.keeps)
    return net


def write_weights(net: nn.Module, path: Path, recipe: Recipe) -> None:
    """Inference form, and beside it the training form where there are teachers (stage 2 may ask for it)."""
    kind = recipe.data.kind
    save = partial(
        save_weights,
        weights=net,
        model=recipe.model.name,
        elimination=recipe.model.elimination,
        extra={KEY: kind, CROPS_KEY: stated_crops(model_spec(recipe.model.name).geometry)}
        | ({COLOURS_KEY: recipe.data.depth_colours} if kind == "depth" else {}),
    )
    save(path)
    if method_of(recipe.model.name).options(recipe.method).get("teachers"):
        save(path.with_name(f"{path.stem}-training{path.suffix}"), form="training")


def _batches_done(checkpoint: Path) -> int:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return int(state["batches_done"])


def _rank() -> int:
    return getattr(rank_zero_only, "rank", 0) or 0
