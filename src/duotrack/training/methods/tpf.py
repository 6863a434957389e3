"""TPF's training: stage 1 (`mad`) teaches the adapter to fuse, stage 2 (`drf`) all of it to track."""

from importlib.util import find_spec
from typing import Any

from torch import Tensor

from duotrack.errors import InputError
from duotrack.fusion.cache import FrameCache
from duotrack.models.outputs import NetOutput
from duotrack.models.tpf import TPF
from duotrack.models.tpf_options import AdapterOptions, TPFOptions
from duotrack.training.methods.drf import drf_step
from duotrack.training.methods.mad import Memory, mad_step, named_experts
from duotrack.training.methods.tpf_settings import TPFSettings
from duotrack.training.step import Batch, StepLosses, images, task, task_parts


def tpf_options(settings: TPFSettings) -> dict[str, Any]:
    """What TPF's network is built with; in stage 1 it has no gate.

    Raises:
        InputError: the scan's kernel is asked for and not installed.
    """
    pfa, drf = settings.pfa, settings.drf
    if pfa.backend == "mamba_ssm" and find_spec("mamba_ssm") is None:
        raise InputError("pfa.backend is mamba_ssm, which is not installed; --set method.pfa.backend=chunk")
    options = TPFOptions(
        adapter=AdapterOptions(**pfa.model_dump(include=set(AdapterOptions.model_fields))),
        level=drf.level,
        bottleneck=None if settings.stage == "mad" else drf.bottleneck,
        gate_answers=drf.inference_gate,
    )
    chunk = None if pfa.chunk == "auto" else pfa.chunk
    return {"options": options, "backend": pfa.backend, "chunk": chunk, "recompute": pfa.recompute}


def tpf_memory(settings: TPFSettings) -> Memory | None:
    """What is kept from step to step, where experts teach."""
    return Memory(len(named_experts(settings.mad))) if _taught(settings) else None


def tpf_caches(settings: TPFSettings) -> tuple[FrameCache, ...]:
    """Where experts' frames lie that were fused before."""
    if not _taught(settings):
        return ()
    return tuple(expert for expert in named_experts(settings.mad) if isinstance(expert, FrameCache))


def tpf_step(
    net: TPF, batch: Batch, settings: TPFSettings, *, epoch: float = 0.0, memory: Memory | None = None
) -> StepLosses:
    """One training step's losses, the same in every `epoch`; stochastic depth uses torch's default generators.

    `memory`: `tpf_memory` of the same settings.

    Raises:
        InputError: the batch lacks what the settings need, or in stage 1 more than the adapter would learn.
    """
    if settings.stage == "mad":
        assert memory is not None
        return mad_step(net, batch, settings, memory)
    return drf_step(net, batch, settings, memory)


def tpf_check(net: TPF, batch: Batch, settings: TPFSettings) -> dict[str, Tensor]:
    """The head's losses and mean IoU (no window) on held-out pairs, in either stage; evaluation mode."""
    template, search = images(batch)
    dynamic = (batch["dynamic"][:, 0], batch["dynamic"][:, 1]) if "dynamic" in batch else None
    present = None if batch["present"].all() else batch["present"]
    out: NetOutput = net(template=template, search=search, dynamic=dynamic, present=present)
    return task_parts(task(out, batch["box"], settings))


def _taught(settings: TPFSettings) -> bool:
    return settings.stage == "mad" or settings.drf.kd > 0
