"""From a network to a graph file: tracing, OpenVINO IR, ONNX, and the facts that travel inside."""

import contextlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.files import atomic_path
from duotrack.models.zoo import ModelSpec
from duotrack.runtime.deploy import deploy
from duotrack.runtime.graph_facts import GraphFacts, Wanted, facts
from duotrack.runtime.ir_file import KEYS
from duotrack.runtime.onnx_file import KEY
from duotrack.runtime.openvino_backend import require_openvino
from duotrack.runtime.torch_backend import keeps_templates, prepare
from duotrack.runtime.traced import trace
from duotrack.weights.task import NOTHING, Trained


def require_exporter() -> None:
    """Whether what torch writes ONNX with is installed; it is not imported for it.

    Raises:
        InputError: it is not; names the extra.
    """
    if not all(installed(name) for name in ("onnx", "onnxscript")):
        raise InputError("exporting to ONNX needs onnx and onnxscript: pip install 'duotrack[export]'")


def installed(library: str) -> bool:
    """Whether a library could be imported; it is only looked for."""
    return sys.modules.get(library, True) is not None and importlib.util.find_spec(library) is not None


def describe(
    net: nn.Module, spec: ModelSpec, wanted: Wanted, *, precision: str, batch: int, trained: Trained = NOTHING
) -> GraphFacts:
    """Facts of the graph of a deployed network; a mask is added where the network understands one.

    `trained`: what its weights were trained on.
    """
    masked = bool(getattr(net, "masks", False)) and len(wanted.search) == 2
    keeps = keeps_templates(net)
    template = wanted.search if keeps else wanted.template
    return facts(
        model=spec.name,
        geometry=spec.geometry,
        calibration=spec.calibration,
        elimination=str(getattr(net, "elimination", None)),
        precision=precision,
        wanted=Wanted(template, wanted.search, masked),
        keeps=keeps,
        either=bool(getattr(net, "shared", False)) and len(wanted.search) == 1,
        batch=batch,
        made_by={"duotrack": version("duotrack"), "torch": torch.__version__},
        task=trained.kind,
        depth_colours=trained.colours,
    )


def to_openvino(net: nn.Module, about: GraphFacts) -> Any:
    """The OpenVINO model of a deployed network, float32, its metadata inside.

    Raises:
        InputError: OpenVINO is not installed, or knows no graph for the network.
    """
    ov = require_openvino()
    with (
        refused(about),
        without_telemetry(),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        traced = trace(net, about.wanted, about.sizes, batch=about.batch)
        model = ov.convert_model(traced)
    names = dict(zip(traced.graph_signature.user_inputs, about.wanted.input_names(), strict=True))
    for port in model.inputs:
        name = names[port.get_node().get_friendly_name()]
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    model = _with_inputs(model, about)
    for port, name in zip(model.outputs, about.output_names(), strict=True):
        port.get_tensor().set_names({*port.get_names(), name})
    say_facts(model, about)
    return model


def _with_inputs(model: Any, about: GraphFacts) -> Any:
    """The model with all of its inputs: the converter drops a first one that is not looked at."""
    ov = require_openvino()
    made = {node.get_friendly_name(): node for node in model.get_parameters()}
    shapes = about.input_shapes(about.batch or -1)
    if made.keys() == shapes.keys():
        return model
    for name in shapes.keys() - made.keys():
        made[name] = ov.opset13.parameter(shapes[name], ov.Type.f32, name=name)
        made[name].output(0).get_tensor().set_names({name})
    return ov.Model(model.get_results(), [made[name] for name in shapes], model.get_friendly_name())


def say_facts(model: Any, about: GraphFacts) -> None:
    """Put the metadata into an OpenVINO model."""
    model.set_rt_info(about.text(), KEYS)


def save_openvino(model: Any, path: Path, *, half: bool) -> None:
    """Write IR, `path` (`.xml`) and its weights beside it; `half` keeps them in 16 bits.

    The weights go first: an `.xml` never stands without them.
    """
    ov = require_openvino()
    with atomic_path(path) as temporary:
        ov.save_model(model, temporary, compress_to_fp16=half)
        temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))


def to_onnx(net: nn.Module, about: GraphFacts) -> Any:
    """The ONNX program of a deployed network, its metadata inside; `save` writes it.

    Raises:
        InputError: what makes ONNX is not installed, or knows no graph for the network.
    """
    require_exporter()
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with refused(about), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own making
            traced = trace(net, about.wanted, about.sizes, batch=about.batch)
            program = torch.onnx.export(
                traced,
                input_names=about.wanted.input_names(),
                output_names=about.output_names(),
                dynamo=True,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None
    program.model.metadata_props[KEY] = about.text()
    return program


def prepared(net: nn.Module, *, precision: str = "fp32") -> nn.Module:
    """A network of the zoo in its deployed form on the CPU; with "fp16" it computes in that type, else in float32."""
    return prepare(deploy(net), device=torch.device("cpu"), precision="fp16" if precision == "fp16" else "fp32")


@contextlib.contextmanager
def refused(about: GraphFacts) -> Iterator[None]:
    """What tracing and converters say of a network that they cannot write, in one line."""
    try:
        yield
    except RuntimeError as error:  # the common base of what torch.export, its ONNX exporter and OpenVINO raise
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"{about.model} cannot be written as a graph ({first[:200]}); it runs with backend torch"
        ) from error


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """OpenVINO's converter and NNCF report their use to their makers unless told otherwise; here they do not."""
    name = "openvino_telemetry"
    loaded = {each: sys.modules.pop(each) for each in list(sys.modules) if each.partition(".")[0] == name}
    sys.modules[name] = None  # type: ignore[assignment]  # makes its import fail, which they are ready for
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(loaded)
