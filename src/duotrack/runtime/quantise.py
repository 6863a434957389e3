"""Eight-bit graphs by post-training quantisation: ranges are read off a graph while it looks at a user's frames."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from duotrack.errors import InputError
from duotrack.runtime.convert import installed, without_telemetry
from duotrack.runtime.graph_facts import GraphFacts
from duotrack.runtime.openvino_backend import openvino_core

LEAST = 8
"""Samples that are needed at least for ranges worth having."""


def quantise(model: Any, about: GraphFacts, samples: Sequence[Sequence[Tensor]]) -> Any:
    """An OpenVINO or ONNX model with 8-bit weights and activations where NNCF finds them harmless.

    Args:
        model: `openvino.Model` or `onnx.ModelProto`.
        about: its facts.
        samples: for each, the graph's inputs for one sample, in order; repeated to the graph's batch if it has one.

    Raises:
        InputError: NNCF is not installed, or there are too few samples.
    """
    if len(samples) < LEAST:
        raise InputError(f"int8 needs at least {LEAST} views of frames to fit ranges to, got {len(samples)}")
    require_nncf()
    if installed("openvino"):
        openvino_core()  # before NNCF makes cores of its own
    with without_telemetry(), logging_kept():  # its handler writes to what is standard output at its import
        import nncf
    with without_telemetry(), logging_kept(), _quiet():
        # its own `set_log_level` would also change handlers that others hung on its logger
        logging.getLogger("nncf").setLevel(logging.ERROR)
        feeds = [_feed(about, sample) for sample in samples]
        convolutions, products = _openvino_left(model) if hasattr(model, "get_ops") else _onnx_left(model)
        return nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(types=convolutions, names=products, validate=False),
        )


def require_nncf() -> None:
    """Whether NNCF is installed; it is not imported for it.

    Raises:
        InputError: it is not; names the extra.
    """
    if not installed("nncf"):
        raise InputError("int8 needs nncf: pip install 'duotrack[int8]'")


def _openvino_left(model: Any) -> tuple[list[str], list[str]]:
    """What stays in floating point, types and names: convolutions, and products of two activations (attention).

    Convolutions (of the head above all) cost most of the accuracy and hold few of the multiplications. OpenVINO 2026.4
    computes some quantised products of activations wrong.
    """
    names = [
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() == "MatMul"
        and all(each.get_source_output().get_node().get_type_name() != "Constant" for each in op.inputs())
    ]
    return ["Convolution", "GroupConvolution", "ScaledDotProductAttention"], names


def _onnx_left(model: Any) -> tuple[list[str], list[str]]:
    """As `_openvino_left`, of an ONNX model, whose attention is written out."""
    fixed = {each.name for each in model.graph.initializer}
    for node in model.graph.node:  # in topological order: weights may pass through a transposition
        if node.op_type == "Constant" or (node.input and all(name in fixed for name in node.input)):
            fixed |= set(node.output)
    names = [node.name for node in model.graph.node if node.op_type == "MatMul" and not fixed & set(node.input)]
    return ["Conv"], names


def _feed(about: GraphFacts, sample: Sequence[Tensor]) -> dict[str, Any]:
    repeat = about.batch or 1
    stacked = [each.expand(repeat, *each.shape[1:]).contiguous().numpy() for each in sample]
    return dict(zip(about.wanted.input_names(), stacked, strict=True))


@contextlib.contextmanager
def logging_kept() -> Iterator[None]:
    """Logging is afterwards what it was: loggers with their handlers and levels, and the class of loggers to come.

    NNCF makes every logger to come one of its own kind when it is imported. A logger made meanwhile stays as it is.
    """
    manager = logging.root.manager
    loggers = [logging.root, *(each for each in manager.loggerDict.values() if isinstance(each, logging.Logger))]
    before = [(each, each.level, each.propagate, each.disabled, [*each.handlers], [*each.filters]) for each in loggers]
    levels = [(handler, handler.level) for each in loggers for handler in each.handlers]
    kind, switched_off = logging.getLoggerClass(), manager.disable
    try:
        yield
    finally:
        logging.setLoggerClass(kind)
        logging.disable(switched_off)
        for each, level, propagate, disabled, handlers, filters in before:
            each.setLevel(level)
            each.propagate, each.disabled = propagate, disabled
            each.handlers[:], each.filters[:] = handlers, filters
        for handler, level in levels:
            handler.setLevel(level)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
