"""From a model's name to a tracker that is ready."""

from pathlib import Path

from duotrack.depth import Colours
from duotrack.errors import InputError, nearest
from duotrack.frames import Kind
from duotrack.models.zoo import model_spec
from duotrack.runtime.torch_backend import prepare, resolve_device
from duotrack.tracking.missing import DEFAULT_POLICY, missing_policy
from duotrack.tracking.state import state_rule
from duotrack.tracking.tracker import Tracker
from duotrack.weights.build import build_net
from duotrack.weights.task import settle_kind

BACKENDS = ("torch",)


def load_tracker(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    backend: str = "torch",
    elimination: str | None = None,
    modality: Kind | None = None,
    depth_colours: Colours = "bgr",
    missing: str = DEFAULT_POLICY,
    **thresholds: float | None,
) -> Tracker:
    """Build a tracker by the name of its model.

    Args:
        name: one of `duotrack.models.zoo.MODELS`, e.g. "ckd-tiny".
        weights: a safetensors file or a published checkpoint; None takes what the package holds for this model.
        device: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N".
        precision: "fp32", or "bf16" or "fp16" for the network's weights and arithmetic.
        backend: "torch".
        elimination: "mce", "ce" or "none"; None takes the model's own.
        modality: what the auxiliary frames show: "thermal", "depth" (16 bits, millimetres) or "event"; None takes what
            the weights were trained on, as far as they say, else thermal.
        depth_colours: order of the channels of depth that the tracker renders; "bgr" for published checkpoints.
        missing: what to do about a sensor that drops out: "model" (the network's own means), "zeros", "copy",
            "hold-frame" or "hold-box"; see `duotrack.tracking.missing`.
        **thresholds: fields of `StateRule`, e.g. `uncertain_below=0.3, lost_after=30`; None takes the default.

    Raises:
        InputError: an unknown name or option, a device that this machine lacks, a precision that it does not have, or
            weights that cannot be read, belong to another model or were trained on another modality.
    """
    spec = model_spec(name)
    if backend not in BACKENDS:
        raise InputError(f"no backend is called {backend!r}{nearest(backend, list(BACKENDS))}")
    rule = state_rule(**thresholds)
    policy = missing_policy(missing)
    kind = settle_kind(spec, weights, modality, colours=depth_colours)
    where = resolve_device(device, precision)
    net = prepare(build_net(name, weights=weights, elimination=elimination), device=where, precision=precision)
    return Tracker(
        net,
        geometry=spec.geometry,
        calibration=spec.calibration,
        rule=rule,
        missing=policy,
        device=where,
        kind=kind,
        depth_colours=depth_colours,
    )
