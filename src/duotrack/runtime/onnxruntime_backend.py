"""Running graphs with ONNX Runtime."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from duotrack.errors import InputError
from duotrack.runtime.graph_facts import MAPS, OTHER_GRAPH, GraphFacts
from duotrack.runtime.graph_net import in_batches
from duotrack.runtime.onnx_file import read_onnx_facts


def require_onnxruntime() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("backend onnxruntime is not installed: pip install 'duotrack[export]'") from error
    return onnxruntime


class OnnxRuntimeSession:
    """A graph from an ONNX file, cut in two where its network keeps a template's tokens and `onnx` is there to cut.

    Args:
        path: a file that `duotrack export` wrote.
        device: "cpu", or "cuda" where the installed ONNX Runtime has it.
        threads: how many the graph may use on the CPU.

    Raises:
        InputError: not installed, no such file, damaged, not an export of this version, no CUDA in this ONNX Runtime.
    """

    def __init__(self, path: Path, *, device: torch.device, threads: int) -> None:
        ort = require_onnxruntime()
        self.facts = read_onnx_facts(path)
        self._device = device
        self._settings: dict[str, Any] = {"providers": _providers(ort, device), "sess_options": ort.SessionOptions()}
        self._settings["sess_options"].intra_op_num_threads = threads
        self._settings["sess_options"].log_severity_level = 3
        self._pieces = {name: self._open(part) for name, part in cut_onnx(path, self.facts).items()}

    def remember(self, images: list[Tensor]) -> list[Tensor]:
        """See `duotrack.runtime.graph_net.Session`."""
        return self._run("remember", images, self.facts.output_names()[len(MAPS) :])

    def follow(self, inputs: list[Tensor]) -> list[Tensor]:
        """See `duotrack.runtime.graph_net.Session`."""
        return self._run("follow", inputs, list(MAPS))

    def _run(self, piece: str, inputs: list[Tensor], outputs: list[str]) -> list[Tensor]:
        if self.facts.batch and len(inputs[0]) != self.facts.batch:
            return in_batches(lambda part: self._run(piece, part, outputs), inputs, self.facts.batch)
        session = self._pieces[piece]
        feeds = {port.name: each.cpu().numpy() for port, each in zip(session.get_inputs(), inputs, strict=True)}
        return [torch.from_numpy(each).to(self._device) for each in session.run(outputs, feeds)]

    def _open(self, source: Path | bytes) -> Any:
        ort = require_onnxruntime()
        try:
            return ort.InferenceSession(source if isinstance(source, bytes) else str(source), **self._settings)
        except Exception as error:  # its own types share no base
            if type(error).__module__.partition(".")[0] != "onnxruntime":
                raise
            raise InputError(f"ONNX Runtime cannot use the export: {str(error)[:200]}; export it again") from error


def cut_onnx(path: Path, facts: GraphFacts) -> dict[str, Path | bytes]:
    """The graph that tracks, and the one that makes a template's tokens for it where they can be kept.

    Raises:
        InputError: the graph's inputs or outputs are not what its metadata say, or `onnx` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError("backend onnxruntime needs onnx: pip install 'duotrack[export]'") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("google", "onnx"):
            raise
        raise InputError(f"{path} is damaged ({error}); export it again") from error
    _check(model, facts, path)
    if not facts.keeps:
        return {"follow": path}
    count = len(facts.template)
    inputs, tokens = facts.wanted.input_names(), facts.output_names()[len(MAPS) :]
    remember = _piece(model, inputs[:count], tokens)
    follow = _piece(model, [*tokens, *inputs[count:]], list(MAPS))
    return {"remember": remember, "follow": follow}


def _piece(model: Any, inputs: list[str], outputs: list[str]) -> bytes:
    """What lies between the values named `inputs` and those named `outputs`.

    Shapes may be asked of an image that this piece does not get: the batch is the same in all, so it is asked of one
    that it does get.
    """
    import onnx

    ports = {port.name: port for port in [*model.graph.input, *model.graph.output]}
    made = {name: node for node in model.graph.node for name in node.output}
    nodes, wanted, done = [], list(outputs), set(inputs)
    while wanted:
        name = wanted.pop()
        node = made.get(name)
        if name in done or node is None:
            continue
        done |= set(node.output)
        nodes.append(node)
        wanted += _needs(node)
    order = {id(node): at for at, node in enumerate(model.graph.node)}
    nodes.sort(key=lambda node: order[id(node)])
    used = {name for node in nodes for name in _needs(node)}
    kept = [each for each in model.graph.initializer if each.name in used]
    graph = onnx.helper.make_graph(
        nodes, "piece", [ports[name] for name in inputs], [ports[name] for name in outputs], initializer=kept
    )
    absent = {port.name for port in model.graph.input} & used - set(inputs)
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in absent:
            node.input[0] = inputs[0]
    piece = onnx.helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    piece.ir_version = model.ir_version
    data: bytes = piece.SerializeToString()
    return data


def _needs(node: Any) -> list[str]:
    return [name for name in node.input if name]


def _check(model: Any, facts: GraphFacts, path: Path) -> None:
    """Names, order and sizes of what goes in and comes out."""
    found = {
        port.name: [each.dim_value if each.HasField("dim_value") else -1 for each in port.type.tensor_type.shape.dim]
        for port in model.graph.input
    }
    wanted = facts.input_shapes(facts.batch or -1)
    if list(found.items()) != list(wanted.items()) or [p.name for p in model.graph.output] != facts.output_names():
        raise InputError(f"{path} {OTHER_GRAPH}")


def _providers(ort: Any, device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise InputError(
            "the installed ONNX Runtime computes on the CPU only: pip install onnxruntime-gpu, or use device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]
