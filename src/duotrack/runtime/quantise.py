"""Eight-bit graphs by post-training quantisation: ranges are read off a graph while it looks at a user's frames."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from duotrack.errors import InputError
from duotrack.runtime.convert import without_telemetry
from duotrack.runtime.graph_facts import GraphFacts

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
    with without_telemetry(), _quiet():
        try:
            import nncf
        except ImportError as error:
            raise InputError("int8 needs nncf: pip install 'duotrack[int8]'") from error
        import logging

        nncf.set_log_level(logging.ERROR)
        feeds = [_feed(about, sample) for sample in samples]
        return nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
        )


def _feed(about: GraphFacts, sample: Sequence[Tensor]) -> dict[str, Any]:
    repeat = about.batch or 1
    stacked = [each.expand(repeat, *each.shape[1:]).contiguous().numpy() for each in sample]
    return dict(zip(about.wanted.input_names(), stacked, strict=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
