"""From a model's name to a tracker that is ready."""

from pathlib import Path

from duotrack.errors import InputError, nearest
from duotrack.models.zoo import model_spec
from duotrack.runtime.deploy import deploy
from duotrack.runtime.torch_backend import prepare, resolve_device
from duotrack.tracking.state import state_rule
from duotrack.tracking.template import TemplateRule, rule_for
from duotrack.tracking.tracker import Tracker
from duotrack.weights.build import build_net

BACKENDS = ("torch",)


def load_tracker(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    backend: str = "torch",
    elimination: str | None = None,
    templates: TemplateRule | None = None,
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
        templates: when the second template of a model that takes two is renewed, see `duotrack.tracking.template`; None
            takes the default, which is `latest_reliable` with the model's own threshold.
        **thresholds: fields of `StateRule`, e.g. `uncertain_below=0.3, lost_after=30`; None takes the default.

    Raises:
        InputError: an unknown name or option, a device that this machine lacks, a precision that it does not have, or
            weights that cannot be read or belong to another model.
    """
    spec = model_spec(name)
    if backend not in BACKENDS:
        raise InputError(f"no backend is called {backend!r}{nearest(backend, list(BACKENDS))}")
    rule = state_rule(**thresholds)
    renewal = rule_for(spec, templates)
    where = resolve_device(device, precision)
    net = build_net(name, weights=weights, elimination=elimination)
    net = prepare(deploy(net) if spec.templates > 1 else net, device=where, precision=precision)
    return Tracker(
        net, geometry=spec.geometry, calibration=spec.calibration, rule=rule, templates=renewal, device=where
    )
