"""From a model's name to a tracker that is ready."""

from dataclasses import fields
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import numpy as np
import torch

from duotrack.depth import Colours
from duotrack.errors import InputError, check_type, nearest
from duotrack.frames import Kind
from duotrack.models.zoo import model_spec
from duotrack.runtime.backends import (
    backend_device,
    check_backend,
    facts_of,
    is_export,
    open_export,
    open_network,
    trained_by,
)
from duotrack.runtime.graph_facts import BOTH
from duotrack.tracking.missing import DEFAULT_POLICY, missing_policy
from duotrack.tracking.redetect import Redetection
from duotrack.tracking.state import StateRule, state_rule
from duotrack.tracking.template import TemplateRule, rule_for
from duotrack.tracking.tracker import Tracker
from duotrack.weights.build import TAKES
from duotrack.weights.task import settle_kind, warn_of_other_crops

_NUMBER = ((Real, NoneType), "a number")
_TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    **{name: TAKES[name] for name in ("name", "weights", "elimination")},
    "device": ((str, torch.device), "'auto', 'cpu', 'cuda' or 'cuda:N'"),
    "precision": ((str, NoneType), "'fp32', 'bf16', 'fp16', 'int8' or None"),
    "backend": ((str, NoneType), "'torch', 'compiled', 'onnxruntime', 'openvino' or None"),
    "prepare_for": ((tuple, list, str), "('rgb', 'aux'), ('rgb',) or ('aux',)"),
    "modality": ((str, NoneType), "'thermal', 'depth', 'event' or None"),
    "depth_colours": ((str,), "'bgr' or 'rgb'"),
    "missing": ((str,), "the name of a policy, such as 'model'"),
    "templates": ((TemplateRule, NoneType), "a TemplateRule, or None"),
    "redetect": ((bool, np.bool_, NoneType), "True, False or None"),
    **{field.name: _NUMBER for field in fields(StateRule)},
}
_CHOICES: dict[str, tuple[str, ...]] = {"modality": get_args(Kind), "depth_colours": get_args(Colours)}


def load_tracker(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    precision: str | None = None,
    backend: str | None = None,
    elimination: str | None = None,
    prepare_for: tuple[str, ...] = BOTH,
    modality: Kind | None = None,
    depth_colours: Colours = "bgr",
    missing: str = DEFAULT_POLICY,
    templates: TemplateRule | None = None,
    redetect: bool | None = None,
    **thresholds: float | None,
) -> Tracker:
    """Build a tracker by the name of its model.

    Its network is made ready for tracking only (on the CPU weights may lie as the processor multiplies them): what is
    to be trained, copied or saved comes from `duotrack.build_net`.

    Args:
        name: one of `duotrack.models.zoo.MODELS`, e.g. "ckd-tiny".
        weights: a safetensors file, a published checkpoint or an exported network (`.onnx`, `.xml`); None takes what
            the package holds for this model.
        device: "auto" (CUDA where there is one and the back-end uses it, else the CPU), "cpu", "cuda" or "cuda:N", or a
            `torch.device`.
        precision: "fp32", "bf16", "fp16" or "int8", for the network's weights and arithmetic; None takes fp32, or
            what an exported network was made for. Which back-end has which: `duotrack.runtime.backends.BACKENDS`.
        backend: "torch", "compiled", "onnxruntime" or "openvino"; None takes torch, or what runs an exported network.
        elimination: "mce", "ce" or "none"; None takes the model's own. An exported network's is settled.
        prepare_for: which sides the videos will have, ("rgb", "aux") or one of them: a back-end that prepares a graph
            does so for these, and prepares others when a target is first seen with them.
        modality: what the auxiliary frames show: "thermal", "depth" (16 bits, millimetres) or "event"; None takes what
            the weights were trained on, as far as they say, else thermal.
        depth_colours: order of the channels of depth that the tracker renders; "bgr" for published checkpoints.
        missing: what to do about a sensor that drops out: "model" (the network's own means), "zeros", "copy",
            "hold-frame" or "hold-box"; see `duotrack.tracking.missing`.
        templates: when the second template of a model that takes two is renewed, see `duotrack.tracking.template`; None
            takes the default, which is `latest_reliable` with the model's own threshold.
        redetect: whether a lost target is looked for in the whole frame, see `duotrack.tracking.redetect`; None takes
            the model's own: on for ckd-tiny, off for all others. Off gives the standard tracker.
        **thresholds: fields of `StateRule`, e.g. `uncertain_below=0.3, lost_after=30`; None takes the model's
            own, else the default.

    Raises:
        InputError: an unknown name or option, a device that this machine lacks, a back-end that is not installed, a
            precision that it does not have, or weights that cannot be read, belong to another model or were trained on
            another modality.
    """
    _check_types(
        name=name,
        weights=weights,
        device=device,
        precision=precision,
        backend=backend,
        elimination=elimination,
        prepare_for=prepare_for,
        modality=modality,
        depth_colours=depth_colours,
        missing=missing,
        templates=templates,
        redetect=redetect,
        **thresholds,
    )
    spec = model_spec(name)
    settled, kind = check_backend(backend, precision, weights)
    rule = state_rule(**{**spec.state, **{key: value for key, value in thresholds.items() if value is not None}})
    policy = missing_policy(missing)
    renewal = rule_for(spec, templates)
    if tuple(prepare_for) not in (BOTH, BOTH[:1], BOTH[1:]):
        raise InputError(f"prepare_for is {prepare_for!r}: give ('rgb', 'aux'), ('rgb',) or ('aux',)")
    shows = settle_kind(spec, trained_by(spec, weights), modality, colours=depth_colours)
    if spec.templates > 1 and settled != "torch":
        raise InputError(f"{name} takes two templates, which backend {settled} does not hand over; use backend torch")
    where = backend_device(settled, str(device), kind)
    about: dict[str, Any] = {
        "windowed_score": spec.windowed_score,
        "rule": rule,
        "missing": policy,
        "templates": renewal,
        "redetect": Redetection() if (spec.redetect if redetect is None else redetect) else None,
        "device": where,
        "kind": shows,
        "depth_colours": depth_colours,
    }
    if weights is not None and is_export(weights):
        net, facts = open_export(weights, backend=settled, precision=kind, device=where)
        if facts.model != name:
            raise InputError(f"{weights} is an export of {facts.model}, not of {name}; name that model")
        if elimination not in (None, facts.elimination):
            raise InputError(f"{weights} was exported with elimination {facts.elimination}, not {elimination}")
        return Tracker(net, geometry=facts.sizes, calibration=facts.calibration, **about)
    opened = open_network(
        name,
        weights=weights,
        backend=settled,
        precision=kind or "fp32",
        device=where,
        elimination=elimination,
        prepare_for=prepare_for,
    )
    warn_of_other_crops(spec, weights)
    return Tracker(opened, geometry=spec.geometry, calibration=spec.calibration, **about)


def _check_types(**given: object) -> None:
    for key, value in given.items():
        if key not in _TAKES:
            raise InputError(f"load_tracker takes no {key!r}{nearest(key, list(_TAKES))}")
        check_type(key, value, *_TAKES[key])
        if key in _CHOICES and value is not None and value not in _CHOICES[key]:
            raise InputError(f"no {key} is called {value!r}{nearest(str(value), list(_CHOICES[key]))}")


def check_names(name: str, *, backend: str | None, precision: str | None, weights: str | Path | None) -> None:
    """Whether model, back-end and precision exist and go together; nothing is loaded for it.

    Raises:
        InputError: they do not.
    """
    model_spec(name)
    check_backend(backend, precision, weights)


def model_of(weights: str | Path | None, model: str | None) -> str:
    """The model that was asked for; where none was, an exported network's own, else "ckd-tiny".

    Raises:
        InputError: an exported network that cannot be read.
    """
    if model is not None:
        return model
    if weights is None or not is_export(weights):
        return "ckd-tiny"
    return facts_of(weights).model
