"""Parameter groups, learning-rate schedule and what is frozen."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.training.recipe import OptimiserSettings, ScheduleSettings

_RESTING = ("frozen", "unused")


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate; `name` is the substring that chose them.

    The last two do not train: "frozen" is what nothing chose or the recipe froze, "unused" what the network itself
    froze because its forward pass never looks at it.
    """

    name: str
    learning_rate: float
    parameters: list[nn.Parameter]
    trains: bool = True

    @property
    def count(self) -> int:
        """Numbers in the group."""
        return sum(p.numel() for p in self.parameters)


def split_parameters(net: nn.Module, learning_rates: dict[str, float], freeze: tuple[str, ...]) -> list[Group]:
    """Sort parameters into groups, in the order of `learning_rates`, and freeze all others.

    A parameter that the network itself froze (an entry carried for checkpoints only) stays frozen.

    Returns:
        One group a learning rate, then "frozen" and "unused".

    Raises:
        InputError: a substring or a `freeze` beginning fits no parameter, or nothing is left to train.
    """
    names = [name for name, _ in net.named_parameters()]
    top = sorted({name.split(".")[0] for name in names})
    for prefix in freeze:
        if not any(name.startswith(prefix) for name in names):
            raise InputError(f"freeze: no parameter begins with {prefix!r}; the network has {', '.join(top)}")
    members: dict[str, list[nn.Parameter]] = {name: [] for name in (*learning_rates, *_RESTING)}
    fitting: set[str] = set()
    for name, parameter in net.named_parameters():
        group = next((part for part in learning_rates if part in name), None)
        fitting |= {group} if group else set()
        if not parameter.requires_grad:
            group = "unused"
        elif group is None or name.startswith(tuple(freeze)):
            parameter.requires_grad_(False)
            group = "frozen"
        members[group].append(parameter)
    if missing := [name for name in learning_rates if name not in fitting]:
        raise InputError(
            f"optimiser.learning_rates: no parameter has {missing[0]!r} in its name; it has {', '.join(top)}"
        )
    groups = [
        Group(name, learning_rates.get(name, 0.0), parameters, trains=name not in _RESTING)
        for name, parameters in members.items()
    ]
    if not any(group.parameters for group in groups if group.trains):
        raise InputError("every parameter is frozen, nothing is left to train; look at freeze and learning_rates")
    return groups


def make_optimiser(groups: list[Group], settings: OptimiserSettings, *, fused: bool = True) -> torch.optim.AdamW:
    """AdamW over the groups that train (docs/specs/ckd.md, section 3.2).

    `fused` updates each parameter in one pass, which takes half the time; not together with the loss scaling of fp16,
    which would have to be undone before gradients are clipped.
    """
    trained = [{"params": g.parameters, "lr": g.learning_rate} for g in groups if g.trains and g.parameters]
    if settings.decayed == "matrices":
        trained = [part for group in trained for part in _by_decay(group)]
    return torch.optim.AdamW(
        trained, betas=settings.betas, eps=settings.epsilon, weight_decay=settings.weight_decay, fused=fused
    )


def _by_decay(group: dict[str, Any]) -> list[dict[str, Any]]:
    """A parameter group as up to two: what decays, and vectors and parameters with a mark `no_decay`, which do not."""
    still = [p for p in group["params"] if p.ndim < 2 or getattr(p, "no_decay", False)]
    apart = {id(p) for p in still}
    parts = [
        {**group, "params": [p for p in group["params"] if id(p) not in apart]},
        {**group, "params": still, "weight_decay": 0.0},
    ]
    return [part for part in parts if part["params"]]


def schedule_factor(settings: ScheduleSettings, *, steps: int, steps_per_epoch: float) -> Callable[[int], float]:
    """Optimiser step (from 0) -> factor on every learning rate, for a run of `steps`."""

    def factor(step: int) -> float:
        if step < settings.warmup_steps:
            return (step + 1) / (settings.warmup_steps + 1)
        if settings.kind == "step":
            return settings.factor if step >= settings.drop_epoch * steps_per_epoch else 1.0
        if settings.kind == "cosine":
            done = min((step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1), 1.0)
            return settings.factor + (1 - settings.factor) * (1 + math.cos(math.pi * done)) / 2
        return 1.0

    return factor


def rest_frozen(net: nn.Module) -> None:
    """Put every part whose parameters are all frozen into evaluation mode."""
    for child in net.children():
        parameters = list(child.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            child.eval()
        else:
            rest_frozen(child)


def rest_statistics(net: nn.Module) -> None:
    """Put every batch norm into evaluation mode: its statistics stay and are used, its weights may still train."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
