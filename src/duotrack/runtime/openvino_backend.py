"""Running graphs with OpenVINO, on the CPU."""

import threading
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from duotrack.errors import InputError
from duotrack.runtime.graph_facts import OTHER_GRAPH, GraphFacts
from duotrack.runtime.graph_net import in_batches
from duotrack.runtime.ir_file import read_ir_facts
from duotrack.runtime.mapped import dropping_pages, give_back
from duotrack.runtime.onnx_file import read_onnx_facts
from duotrack.runtime.openvino_pieces import behead, cut, sized

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "bf16"}
"""In which type OpenVINO computes what is not integer; it falls back to f32 where the processor lacks the type."""


def require_openvino() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise InputError("backend openvino is not installed: pip install 'duotrack[openvino]'") from error
    return openvino


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of the process, with its CPU device loaded.

    While a core lives the main thread's signals use a stack of its own (OpenVINO 2026.4). Cores that end in another
    order than they began leave a freed one behind, and the next signal, Ctrl-C too, ends the process: so this one
    stays, and comes first.
    """
    core = require_openvino().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


class OpenVINOSession:
    """A graph from a file, cut where its network keeps a template's tokens, and in 16 bits before a wide head.

    Such a head is computed in float32 (`duotrack.runtime.openvino_pieces.behead`).

    Args:
        path: OpenVINO IR (`.xml` beside its `.bin`) or ONNX, with the metadata of an export.
        precision: in which the network computes; None: the file's own.
        threads: how many the graph may use.

    Raises:
        InputError: not installed, no such file, damaged, not an export of this version.
    """

    def __init__(self, path: Path, *, precision: str | None = None, threads: int) -> None:
        self.facts, self._model = read_graph(path)
        require_openvino()
        precision = precision or self.facts.precision
        self._apart = HINTS[precision] != "f32" and self.facts.precision != "int8"
        self._source = path
        self._path = path.with_suffix(".bin") if path.suffix == ".xml" else path
        self._settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # with one thread OpenVINO pins its caller, and so several processes all to the same core
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: dict[tuple[str, int], Any] = {}
        self._in_use = threading.Lock()

    def remember(self, images: list[Tensor]) -> list[Tensor]:
        """See `duotrack.runtime.graph_net.Session`."""
        return self._run("remember", images)

    def follow(self, inputs: list[Tensor]) -> list[Tensor]:
        """See `duotrack.runtime.graph_net.Session`."""
        found = self._run("follow", inputs)
        return self._run("head", found) if len(found) == 1 else found  # features alone, else the maps

    def _run(self, piece: str, inputs: list[Tensor]) -> list[Tensor]:
        if self.facts.batch and len(inputs[0]) != self.facts.batch:
            return in_batches(lambda part: self._run(piece, part), inputs, self.facts.batch)
        with self._in_use:  # a request answers one caller at a time
            request = self._request(piece, inputs)
            results = request.infer([each.contiguous().numpy() for each in inputs], share_inputs=True)
            return [torch.from_numpy(each.copy()) for each in results.values()]

    def _request(self, piece: str, inputs: list[Tensor]) -> Any:
        """One compiled graph a stack size: fixed shapes are what OpenVINO computes fastest."""
        key = (piece, len(inputs[0]))
        if key not in self._requests:
            try:
                model = sized(self._model.clone(), self.facts, batch=len(inputs[0]))
            except RuntimeError as error:  # ports may leave sizes open, so that only this tells
                raise InputError(f"{self._source} {OTHER_GRAPH}") from error
            with dropping_pages(self._path):
                pieces = cut(model, self.facts)
                if self._apart:
                    pieces |= behead(pieces["follow"])
                settings = self._settings | ({"INFERENCE_PRECISION_HINT": "f32"} if piece == "head" else {})
                compiled = openvino_core().compile_model(pieces[piece], "CPU", settings)
                self._requests[key] = compiled.create_infer_request()
            del model
            give_back()
        return self._requests[key]


def read_graph(path: Path) -> tuple[GraphFacts, Any]:
    """An exported graph and what it says of itself; nothing outside the file (and its `.bin`) is read.

    Raises:
        InputError: see `OpenVINOSession`.
    """
    require_openvino()
    from openvino.frontend import FrontEndManager

    kind, facts = ("ir", read_ir_facts(path)) if path.suffix == ".xml" else ("onnx", read_onnx_facts(path))
    try:
        # the one reader: asked for any, OpenVINO would hand a damaged file to every reader that it has
        reader = FrontEndManager().load_by_framework(kind)
        model = reader.convert(reader.load(str(path)))
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot read {path}: {_last_line(error)}; export it again") from error
    check_ports(model, facts, str(path))
    return facts, model


def check_ports(model: Any, facts: GraphFacts, source: str) -> None:
    """Whether a graph takes and gives what its metadata say.

    Raises:
        InputError: it does not.
    """
    wanted = list(facts.input_shapes(facts.batch or -1).items())
    inputs = [(port.get_names(), _shape(port)) for port in model.inputs]
    outputs = [port.get_names() for port in model.outputs]
    fits = len(inputs) == len(wanted) and all(
        name in names
        and len(shape) == len(found)
        and all(a in (-1, b) or b == -1 for a, b in zip(found, shape, strict=True))
        for (name, shape), (names, found) in zip(wanted, inputs, strict=True)
    )
    named = len(outputs) == len(facts.output_names()) and all(
        name in names for name, names in zip(facts.output_names(), outputs, strict=True)
    )
    if not fits or not named:
        raise InputError(f"{source} {OTHER_GRAPH}")


def _shape(port: Any) -> list[int]:
    return [-1 if each.is_dynamic else each.get_length() for each in port.get_partial_shape()]


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
