"""Networks compiled by torch and, on CUDA, captured as one graph: token counts are static, so nothing is decided there.

CUDA paths have not been measured (no GPU was at hand).
"""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.frames import MODALITIES
from duotrack.models.outputs import HeadMaps
from duotrack.runtime.graph_facts import MAPS
from duotrack.runtime.native import compiler
from duotrack.runtime.torch_backend import keeps_templates

Pair = tuple[Tensor | None, Tensor | None]
Maps = tuple[Tensor, Tensor, Tensor]
_WARM_UP = 3
"""Runs before a capture: libraries set themselves up and compilers choose in the first ones."""


class CompiledNet:
    """A network behind `torch.compile`, compiled anew for each set of modalities and each stack size.

    Args:
        net: in its deployed form, on `device`, in its precision.
        device: on CUDA every compiled form is captured into a graph and replayed.

    Raises:
        InputError: on the CPU, where the compiler makes C++, no C++ compiler is there.
    """

    def __init__(self, net: nn.Module, *, device: torch.device) -> None:
        if device.type == "cpu" and compiler() is None:
            raise InputError(
                "backend compiled needs a C++ compiler (g++ or clang++, or $CXX): install one, or use openvino"
            )
        # each set of modalities and stack size is one compilation of the same code; beyond this many torch gives up
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        self.net = net
        self.elimination = str(getattr(getattr(net, "net", net), "elimination", None))
        self._device = device
        self._ready: dict[tuple[Any, ...], Callable[[list[Tensor]], Maps]] = {}

    def remember(self, template: Pair) -> Pair:
        """As the network; it happens once a target, so it is not compiled."""
        own = getattr(self.net, "remember", None)
        with torch.inference_mode():
            return template if own is None else own(template)

    def __call__(self, *, template: Pair, search: Pair, available: tuple[str, ...]) -> HeadMaps:
        """As the network."""
        names = tuple(n for n, image in zip(MODALITIES, search, strict=True) if image is not None and n in available)
        keeps = keeps_templates(self.net)
        needed = [
            n for n, image in zip(MODALITIES, template, strict=True) if image is not None and (n in names or not keeps)
        ]
        inputs = [image for n, image in zip(MODALITIES, template, strict=True) if n in needed and image is not None]
        inputs += [image for n, image in zip(MODALITIES, search, strict=True) if n in names and image is not None]
        key = (tuple(needed), names, tuple(each.shape for each in inputs))
        if key not in self._ready:
            call = _positional(self.net, tuple(needed), names)
            compiled = torch.compile(call, fullgraph=True, dynamic=False)
            self._ready[key] = Captured(compiled, inputs) if self._device.type == "cuda" else compiled_call(compiled)
        score_map, size_map, offset_map = self._ready[key](inputs)
        return HeadMaps(score_map=score_map, size_map=size_map, offset_map=offset_map)


class Captured:
    """A call captured as a CUDA graph: inputs are copied into its own buffers, one launch replays everything.

    Args:
        call: tensors to maps; nothing in it may wait for the device or depend on values.
        inputs: of the shapes and types that it will always have.
    """

    def __init__(self, call: Callable[..., Maps], inputs: list[Tensor]) -> None:
        self._in_use = threading.Lock()
        self._inputs = [each.clone() for each in inputs]
        self._graph = torch.cuda.CUDAGraph()
        side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(_WARM_UP):
                call(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph), torch.inference_mode():
            self._outputs = call(*self._inputs)

    def __call__(self, inputs: list[Tensor]) -> Maps:
        """Maps of their own: the next replay does not change them."""
        with self._in_use:  # one set of buffers
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given, non_blocking=True)
            self._graph.replay()
            score_map, size_map, offset_map = self._outputs
            return score_map.clone(), size_map.clone(), offset_map.clone()


def compiled_call(call: Callable[..., Maps]) -> Callable[[list[Tensor]], Maps]:
    """The same call with a list of tensors, without gradients."""

    def run(inputs: list[Tensor]) -> Maps:
        with torch.inference_mode():
            return call(*inputs)

    return run


def _positional(net: nn.Module, template: tuple[str, ...], search: tuple[str, ...]) -> Callable[..., Maps]:
    def call(*tensors: Tensor) -> Maps:
        z = dict(zip(template, tensors[: len(template)], strict=True))
        x = dict(zip(search, tensors[len(template) :], strict=True))
        maps = net(template=(z.get("rgb"), z.get("aux")), search=(x.get("rgb"), x.get("aux")), available=search)
        score_map, size_map, offset_map = (getattr(maps, name) for name in MAPS)
        return score_map, size_map, offset_map

    return call
