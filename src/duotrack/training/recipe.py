"""Recipes: everything that decides what a training run learns, as frozen settings read from and written to YAML.

Paths never stand in a recipe: the data's come from the command line, that of the initial weights from `--set`.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, create_model

from duotrack.errors import InputError, nearest
from duotrack.training.data import DataSettings
from duotrack.training.methods.table import method_of
from duotrack.training.settings import Settings, parse

Precision = Literal["fp32", "bf16", "fp16"]


class ModelSettings(Settings):
    """Which network is trained and what it starts from."""

    name: str = Field(description="a model of the zoo, `duotrack models` lists them")
    elimination: Literal["mce", "ce", "none"] = Field(default="none", description="token elimination during training")
    drop_path: float = Field(default=0.1, ge=0, lt=1, description="stochastic-depth rate of the last block")
    weights: str | None = Field(
        default=None,
        description="checkpoint to start from, any that `weights inspect` knows; `packaged`, or another model's name: "
        "what the package holds of it",
    )
    requires: Literal["nothing", "weights", "trained"] = Field(
        default="nothing", description="what the checkpoint must be: anything, given, or a trained one of this model"
    )


class OptimiserSettings(Settings):
    """AdamW with one learning rate a parameter group (docs/specs/ckd.md, section 3.2)."""

    learning_rates: dict[str, float] = Field(
        description="part of a parameter's name -> learning rate; the first that fits counts, the rest is frozen"
    )
    weight_decay: float = Field(default=1e-4, ge=0, description="decoupled weight decay")
    decayed: Literal["all", "matrices"] = Field(
        default="all", description="what decays: all that trains, or neither biases, norms nor a scan's A and D"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay rates of the two moments")
    epsilon: float = Field(default=1e-8, gt=0, description="added to the root of the second moment")
    clip: float = Field(default=0.1, ge=0, description="largest L2 norm of the whole gradient; 0 = no clipping")
    accumulate: int = Field(default=1, ge=1, description="batches whose mean gradient makes one step")


class ScheduleSettings(Settings):
    """How the learning rates change, as a factor on all of them."""

    kind: Literal["constant", "step", "cosine"] = Field(default="constant", description="shape after the warm-up")
    warmup_steps: int = Field(default=0, ge=0, description="optimiser steps of linear growth from zero")
    drop_epoch: float = Field(
        default=24, ge=0, description="kind step: epoch after which the rates are multiplied by `factor`"
    )
    factor: float = Field(
        default=0.1, ge=0, le=1, description="kind step: the factor; kind cosine: the factor reached at the end"
    )


class ValidationSettings(Settings):
    """Checks on held-out pairs, when there are any."""

    every_epochs: float = Field(default=1, gt=0, description="epochs between two checks; fractions are allowed")
    pairs: int = Field(default=10_000, ge=1, description="pairs looked at, the same ones every time")


class Recipe(Settings):
    """One training run."""

    summary: str = Field(default="", description="one line for people")
    model: ModelSettings
    method: SerializeAsAny[Settings] = Field(description="what the model's method learns from, see its settings")
    data: DataSettings = Field(default_factory=DataSettings)
    optimiser: OptimiserSettings
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    validation: ValidationSettings = Field(default_factory=ValidationSettings)
    epochs: int = Field(ge=1, description="number of epochs")
    pairs_per_epoch: int = Field(ge=1, description="sample pairs an epoch, over all devices")
    batch_size: int = Field(ge=1, description="pairs a device takes at once")
    precision: Precision = Field(
        default="fp32", description="arithmetic of the network; master weights and losses stay fp32"
    )
    workers: int = Field(default=4, ge=0, description="data processes a device; 0 = none besides the trainer")
    seed: int = Field(
        default=42, ge=0, description="of initial values, sampling, augmentation, masks and stochastic depth"
    )
    freeze: tuple[str, ...] = Field(default=(), description="beginnings of names of parameters that are not trained")
    frozen_mode: Literal["eval", "train"] = Field(
        default="eval", description="frozen parts run without stochastic depth and batch statistics, or (released) with"
    )
    fix_batch_norm: bool = Field(
        default=False, description="batch norms use their stored statistics and never change them, trained or not"
    )
    log_every: int = Field(
        default=50, ge=1, description="optimiser steps between two lines of the log, each a mean over them"
    )
    checkpoint_every: int = Field(default=500, ge=1, description="optimiser steps between two checkpoints")


def packaged() -> dict[str, Path]:
    """Recipe name -> its YAML inside the package."""
    folder = Path(str(files("duotrack") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and change some of its values.

    Args:
        name: a packaged recipe, or the path of a YAML file (it ends in .yaml or .yml).
        overrides: "a.b=value" with the value in YAML.

    Raises:
        InputError: no such recipe or file, no YAML, an unknown key, a value that does not fit.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"no recipe file at {path}; packaged recipes: {', '.join(packaged())}")
    elif name in packaged():
        path = packaged()[name]
    else:
        raise InputError(f"no recipe is called {name!r}{nearest(name, list(packaged()))}")
    data = _mapping(path)
    for override in overrides:
        _apply(data, override)
    return parse_recipe(data, source=f"recipe {name}")


def parse_recipe(data: dict[str, Any], *, source: str) -> Recipe:
    """A recipe from plain values, its `method` read as its model's method wants it.

    Raises:
        InputError: an unknown model or key, a value that does not fit; begins with `source`.
    """
    model = data.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        return parse(Recipe, data, source=source)  # says what is wrong with the model
    return parse(_recipe_of(method_of(model["name"]).settings), data, source=source)


def to_yaml(recipe: Recipe) -> str:
    """The recipe with every value spelt out; `load_recipe` reads it back to an equal one."""
    return str(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120))


@cache
def _recipe_of(settings: type[Settings]) -> type[Recipe]:
    return create_model("Recipe", __base__=Recipe, method=(settings, Field(default_factory=settings)))


def _mapping(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}; a recipe is a mapping of keys to values")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set takes key=value, got {override!r}; for example --set optimiser.clip=0.1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {key}: {text!r} is not a YAML value; quote it") from error
    *parents, last = key.strip().split(".")
    place = data
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {key}: {parent!r} is a plain value and has no keys below it")
        place = inner
    place[last] = value
