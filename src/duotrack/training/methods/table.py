"""Every method that can be trained, by the name that `ModelSpec.method` gives it. One explicit dictionary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from duotrack.fusion.cache import FrameCache
from duotrack.models.zoo import model_spec
from duotrack.training.methods.ckd import CKDSettings, ckd_options, ckd_step
from duotrack.training.methods.ipl import IPLSettings, ipl_check, ipl_options, ipl_step
from duotrack.training.methods.patrack import PATrackSettings, patrack_options, patrack_step
from duotrack.training.methods.tpf import tpf_caches, tpf_check, tpf_memory, tpf_options, tpf_step
from duotrack.training.methods.tpf_settings import TPFSettings
from duotrack.training.settings import Settings
from duotrack.training.step import StepLosses, check


@dataclass(frozen=True)
class Method:
    """How a network learns.

    `settings`: its part of a recipe. `options(settings)`: what it asks of the network's builder. `step(net, batch,
    settings, epoch=...)`: losses of one step in training mode, `epoch` counting from 0 in fractions.
    `check(net, batch, settings)`: scalars on held-out pairs in evaluation mode. `memory(settings)`: a module of what is
    kept from step to step, which goes into checkpoints and is handed to each step as `memory`; None, the usual case,
    where nothing is. `caches(settings)`: where images lie that training pairs bring along.
    """

    settings: type[Settings]
    options: Callable[[Any], dict[str, Any]]
    step: Callable[..., StepLosses]
    check: Callable[..., dict[str, Tensor]] = check
    memory: Callable[[Any], nn.Module | None] = lambda _: None
    caches: Callable[[Any], tuple[FrameCache, ...]] = lambda _: ()


METHODS: dict[str, Method] = {
    "ckd": Method(settings=CKDSettings, options=ckd_options, step=ckd_step),
    "patrack": Method(settings=PATrackSettings, options=patrack_options, step=patrack_step),
    "ipl": Method(settings=IPLSettings, options=ipl_options, step=ipl_step, check=ipl_check),
    "tpf": Method(
        settings=TPFSettings,
        options=tpf_options,
        step=tpf_step,
        check=tpf_check,
        memory=tpf_memory,
        caches=tpf_caches,
    ),
}


def method_of(model: str) -> Method:
    """The method of a model of the zoo.

    Raises:
        InputError: no such model.
    """
    return METHODS[model_spec(model).method]
