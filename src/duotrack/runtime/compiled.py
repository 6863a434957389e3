"""Networks compiled by torch and, on CUDA, captured as one graph: token counts are static, so nothing is decided there.

CUDA paths have not been measured (no GPU was at hand).
"""

import importlib.util
import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.frames import MODALITIES
from duotrack.models.outputs import HeadMaps
from duotrack.runtime.graph_facts import MAPS
from duotrack.runtime.native import compiler, lacking
from duotrack.runtime.torch_backend import keeps_templates

logger = logging.getLogger(__name__)
Pair = tuple[Tensor | None, Tensor | None]
Maps = tuple[Tensor, Tensor, Tensor]
_WARM_UP = 3
"""Runs before a capture: libraries set themselves up and compilers choose in the first ones."""
_COMPILATIONS = 1 << 10
"""Each set of modalities and stack size is one of the same code; beyond a limit, which is a thread's own, torch gives
up."""
_making = threading.Lock()  # torch captures one graph at a time in a process


class CompiledNet:
    """A network behind `torch.compile`, compiled anew for each set of modalities and each stack size.

    Args:
        net: in its deployed form, on `device`, in its precision.
        device: on CUDA every compiled form is captured into a graph and replayed.

    Raises:
        InputError: on the CPU, where the compiler makes C++, no C++ compiler is there; on CUDA no Triton.
    """

    def __init__(self, net: nn.Module, *, device: torch.device) -> None:
        if device.type == "cpu" and compiler() is None:
            raise InputError(f"backend compiled needs a C++ compiler, and {lacking()}; or use openvino")
        if device.type == "cuda" and importlib.util.find_spec("triton") is None:
            raise InputError("backend compiled needs Triton on CUDA: pip install triton, or use backend torch")
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
        with _making:  # clones in other threads share this network
            if key not in self._ready:
                logger.warning("compiling for %s; this takes a while", " and ".join(names))
                call = compiled_call(_positional(self.net, tuple(needed), names))
                self._ready[key] = Captured(call, inputs) if self._device.type == "cuda" else call
        score_map, size_map, offset_map = self._ready[key](inputs)
        return HeadMaps(score_map=score_map, size_map=size_map, offset_map=offset_map)


class Captured:
    """A call captured as a CUDA graph: inputs are copied into its own buffers, one launch replays everything.

    Threads may share it as long as they use the same stream.

    Args:
        call: a list of tensors to maps; nothing in it may wait for the device or depend on values.
        inputs: of the shapes and types that it will always have; on the device that computes.
    """

    def __init__(self, call: Callable[[list[Tensor]], Maps], inputs: list[Tensor]) -> None:
        self._in_use = threading.Lock()
        self._device = inputs[0].device
        self._inputs = [each.clone() for each in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):  # streams are the current device's
            side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    call(self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            # its own stream: torch's is of whichever device captured first; other threads may allocate meanwhile
            with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
                self._outputs = call(self._inputs)

    def __call__(self, inputs: list[Tensor]) -> Maps:
        """Maps of their own: the next replay does not change them."""
        with self._in_use, torch.cuda.device(self._device):  # one set of buffers
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given, non_blocking=True)
            self._graph.replay()
            score_map, size_map, offset_map = self._outputs
            return score_map.clone(), size_map.clone(), offset_map.clone()


def compiled_call(call: Callable[..., Maps]) -> Callable[[list[Tensor]], Maps]:
    """The call compiled, with a list of tensors, without gradients."""
    compiled = torch.compile(call, fullgraph=True, dynamic=False)

    def run(inputs: list[Tensor]) -> Maps:
        limits = {"recompile_limit": _COMPILATIONS, "accumulated_recompile_limit": _COMPILATIONS}
        with torch._dynamo.config.patch(limits), torch.inference_mode():
            return compiled(*inputs)

    return run


def _positional(net: nn.Module, template: tuple[str, ...], search: tuple[str, ...]) -> Callable[..., Maps]:
    def call(*tensors: Tensor) -> Maps:
        z = dict(zip(template, tensors[: len(template)], strict=True))
        x = dict(zip(search, tensors[len(template) :], strict=True))
        maps = net(template=(z.get("rgb"), z.get("aux")), search=(x.get("rgb"), x.get("aux")), available=search)
        score_map, size_map, offset_map = (getattr(maps, name) for name in MAPS)
        return score_map, size_map, offset_map

    return call
