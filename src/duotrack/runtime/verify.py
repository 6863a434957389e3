"""Whether a graph gives what its network gives."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.runtime.graph_facts import MAPS, GraphFacts
from duotrack.runtime.graph_net import Session
from duotrack.runtime.traced import example, run_torch

TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1, "int8": 0.5}
OTHER_TOKENS = 0.5
"""Largest difference of a map from torch's float32 that is let through, over the map's largest value where that is
above 1. Float32 must agree; the others only must not be nonsense: the difference is told, and judged by its reader.
Where rounding makes elimination keep another token, maps differ by more: `OTHER_TOKENS` is let through there."""


def differences(
    session: Session, net: nn.Module, samples: Sequence[Sequence[Tensor]] | None = None
) -> dict[str, float]:
    """Largest difference of each map between a graph and the network that it was made of.

    Args:
        session: the graph.
        net: the network in its deployed form, float32.
        samples: inputs of the graph to compare on, one sample each; None: noise, in stacks of several sizes where the
            graph takes any, and with either modality missing where it masks.
    """
    stacks = _stacks(session.facts) if samples is None else [list(each) for each in samples]
    largest = dict.fromkeys(MAPS, 0.0)
    for inputs in stacks:
        for name, ours, theirs in zip(
            MAPS, _run(session, inputs), run_torch(net, session.facts.wanted, inputs), strict=True
        ):
            worst = float((ours - theirs).abs().max())
            largest[name] = max(largest[name], worst) if worst == worst else float("nan")
    return largest


def agrees(found: dict[str, float], net: nn.Module, about: GraphFacts) -> bool:
    """Whether a graph differs no more from the network than is let through."""
    magnitude = max(float(each.abs().max()) for each in run_torch(net, about.wanted, _stacks(about)[0]))
    allowed = TOLERANCE[about.precision]
    if about.elimination != "none" and about.precision != "fp32":
        allowed = max(allowed, OTHER_TOKENS)
    return all(value <= allowed * max(1.0, magnitude) for value in found.values())  # NaN is not


def check(found: dict[str, float], net: nn.Module, about: GraphFacts) -> None:
    """Refuse a graph that differs too much.

    Raises:
        InputError: it does.
    """
    if not agrees(found, net, about):
        each = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
        raise InputError(
            f"the graph of {about.model} in {about.precision} differs too much from torch ({each}): it is not kept; "
            "try another precision or format"
        )


def _stacks(about: GraphFacts) -> list[list[Tensor]]:
    stacks = []
    for seed, batch in enumerate([about.batch] if about.batch else [1, 3]):
        inputs = example(about.wanted, about.sizes, batch=batch, seed=seed)
        stacks.append(inputs)
        if about.masked:
            for here in (0, 1):
                present = torch.ones(batch, 2, dtype=torch.bool)
                present[::2, here] = False
                stacks.append([*inputs[:-1], present])
    return stacks


def _run(session: Session, inputs: Sequence[Tensor]) -> list[Tensor]:
    count = len(session.facts.template)
    templates, rest = list(inputs[:count]), list(inputs[count:])
    if session.facts.keeps:
        templates = session.remember(templates)
    return session.follow([*templates, *rest])
