"""Networks with weights: from a zoo name and a checkpoint of any kind that fits it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import NoneType

from torch import Tensor, nn

from duotrack.errors import InputError, check_type
from duotrack.models.patrack import ROUTINGS
from duotrack.models.zoo import ModelSpec, build_on_meta, elimination_of, model_spec
from duotrack.weights.convert import (
    copy_to_branches,
    droptrack_to_ostrack,
    hiera_to_tiny,
    init_ckd,
    init_ipl,
    mae_to_branch,
    tiny_to_ipl,
    with_copies,
)
from duotrack.weights.keymap import BEGINS_FROM, FITS, PATRACK_OWN, STARTING_POINTS, TEACHERS, Shape, shown
from duotrack.weights.read import Checkpoint, read_checkpoint
from duotrack.weights.report import load_weights, shapes_of
from duotrack.weights.tpf import GATE, starting_tensors, stated_options

_log = logging.getLogger(__name__)
_HEADS = ("box_head.", "box_head_v.", "box_head_i.")
_TINY_OWN = tuple(f"{b}{n}" for b in ("branch.", "teacher_rgb.", "teacher_tir.") for n in ("pos_embed_", "norm."))
_LAYERS = (*(f"blocks.{i}." for i in range(12)), *(f"{m}_msa_layers.{k}." for m in ("rgb", "tir") for k in range(3)))
_PROMPTERS = tuple(f"backbone.{layer}align_adapter_" for layer in _LAYERS)
_IPL_OWN = (*_PROMPTERS, "backbone.rgb_msa_layers.", "backbone.tir_msa_layers.", "backbone.mst_")


TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    "name": ((str,), "the name of a model, such as 'ckd-tiny'"),
    "weights": ((str, Path, NoneType), "a path, or None"),
    "elimination": ((str, NoneType), "'mce', 'ce', 'none' or None"),
    "teachers": ((bool,), "True or False"),
}
"""Types of arguments, and what to say instead of another."""


@dataclass(frozen=True)
class Fitted:
    """Weights under a model's own keys.

    `keeps`: prefixes of keys that the checkpoint cannot give and that keep their initial values. `trained`: whether
    they make a tracker, or only a starting point for training.
    """

    tensors: Mapping[str, Tensor]
    keeps: tuple[str, ...]
    trained: bool


def build_net(
    name: str,
    *,
    weights: str | Path | None = None,
    elimination: str | None = None,
    teachers: bool = False,
) -> nn.Module:
    """A network of the zoo with weights, in evaluation mode on the CPU, float32.

    Args:
        name: model name, for example "ckd-base".
        weights: our safetensors or a published checkpoint (CKD, IPL, PATrack, OSTrack, DropTrack, MAE, Hiera-Tiny) that
            fits the model; None takes the weights inside the package, or random ones with a warning where it has none.
        elimination: "mce", "ce" or "none"; None takes what the weights were saved with, or the model's default.
        teachers: build the training form.

    Raises:
        InputError: an argument of another type, unknown model or elimination, an unreadable checkpoint, or one that
            does not fit the model.
    """
    for key, value in {"name": name, "weights": weights, "elimination": elimination, "teachers": teachers}.items():
        check_type(key, value, *TAKES[key])
    spec = model_spec(name)
    if weights is not None:
        return build_from(read_checkpoint(weights, teachers=teachers), name, elimination=elimination, teachers=teachers)
    packaged = packaged_weights(spec)
    if packaged is not None and not teachers:
        return build_from(read_checkpoint(packaged), name, elimination=elimination)
    _log.warning("%s starts from random weights: it tracks nothing until trained or given a checkpoint", name)
    return spec.build(**_options(spec, elimination, teachers=teachers)).eval()


def packaged_weights(spec: ModelSpec) -> Path | None:
    """The file of a model's weights inside the package; None where it has none."""
    path = None if spec.weights is None else Path(str(resources.files("duotrack"))) / "weights" / "files" / spec.weights
    return path if path is not None and path.is_file() else None


def build_from(
    checkpoint: Checkpoint, name: str, *, elimination: str | None = None, teachers: bool = False
) -> nn.Module:
    """As `build_net`, from a checkpoint that has been read.

    Raises:
        InputError: the checkpoint does not fit the model.
    """
    spec = model_spec(name)
    own = checkpoint.kind == "duotrack" and checkpoint.metadata.get("model", name) == name
    saved = checkpoint.metadata.get("elimination") if own else None
    content_only = own and checkpoint.metadata.get("content_only") == "yes"
    options = _options(spec, elimination or saved, teachers=teachers, content_only=content_only)
    options |= saved_options(checkpoint, name)
    fitted = fit(checkpoint, name, teachers=teachers)
    if not fitted.trained:
        _log.warning(
            "%s starts from %s weights: initialised, not trained; it tracks poorly until trained", name, checkpoint.kind
        )
    # where nothing keeps its initial value shapes suffice, and memory is needed once
    net: nn.Module = spec.build(**options) if fitted.keeps else build_on_meta(spec, **options)
    load_weights(net, fitted.tensors, allow_missing=fitted.keeps)
    return net.eval()


def fit(checkpoint: Checkpoint, name: str, *, teachers: bool = False) -> Fitted:
    """Bring a checkpoint's tensors under the keys of the model `name`; keys and shapes are not compared here.

    Raises:
        InputError: this kind of checkpoint is not for this model, or it lacks the teachers that are asked for.
    """
    kind, tensors = checkpoint.kind, checkpoint.tensors
    saved_as = checkpoint.metadata.get("model", name)
    begins = kind == "duotrack" and saved_as in BEGINS_FROM.get(name, ())
    if kind not in FITS[name] or (kind == "duotrack" and saved_as != name and not begins):
        what = f"duotrack weights of {saved_as}" if kind == "duotrack" else f"{kind} weights"
        takers = [model for model, kinds in FITS.items() if kind in kinds]
        if kind == "duotrack":
            takers = [saved_as, *(model for model, others in BEGINS_FROM.items() if saved_as in others)]
        raise InputError(f"{name} cannot use {what}; they fit {', '.join(takers)}")
    trained = kind not in STARTING_POINTS and checkpoint.metadata.get("trained") != "no" and not begins
    if model_spec(name).method == "ipl":
        return _fit_ipl(kind, tensors, begins=begins, trained=trained)
    if model_spec(name).method == "tpf":
        if begins or kind != "duotrack":
            return Fitted(*starting_tensors(kind, tensors), trained)
        options = stated_options(checkpoint.metadata)
        gateless = options is not None and options.bottleneck is None  # stage 1 has no gate, stage 2 begins one
        return Fitted(tensors, GATE if gateless else (), trained)
    if kind == "hiera":
        return Fitted(hiera_to_tiny(tensors, teachers=teachers), (*_HEADS, *_TINY_OWN), trained)
    if kind == "mae":
        return Fitted(copy_to_branches(mae_to_branch(tensors), teachers=teachers), _HEADS, trained)
    if kind in ("ostrack", "droptrack"):
        plain = droptrack_to_ostrack(tensors) if kind == "droptrack" else tensors
        if model_spec(name).method == "patrack":
            return Fitted(plain, PATRACK_OWN, trained)
        return Fitted(init_ckd(plain, teachers=teachers), (), trained)
    if not teachers:
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(TEACHERS)}
    elif not any(key.startswith(TEACHERS) for key in tensors):
        raise InputError(
            "the training form needs teachers and these weights have none; use a training checkpoint, or OSTrack or "
            "DropTrack weights to begin with"
        )
    return Fitted(tensors, (), trained)


def _fit_ipl(kind: str, tensors: Mapping[str, Tensor], *, begins: bool, trained: bool) -> Fitted:
    """As `fit`, for the models of IPL."""
    if kind == "hiera":
        return Fitted(
            tiny_to_ipl(hiera_to_tiny(tensors, teachers=False)),
            ("box_head.", "backbone.pos_embed_", "backbone.norm.", *_IPL_OWN),
            trained,
        )
    if begins:
        return Fitted(tiny_to_ipl(tensors), _IPL_OWN, trained)
    if kind in ("ostrack", "droptrack"):
        return Fitted(init_ipl(droptrack_to_ostrack(tensors) if kind == "droptrack" else tensors), _IPL_OWN, trained)
    if kind == "ipl" and not any("align_adapter_" in key for key in tensors):
        _log.warning("the checkpoint has no prompters (stage 1): untrained ones stand in for a missing modality")
        return Fitted(with_copies(tensors, "backbone.patch_embed"), _PROMPTERS, trained)
    return Fitted(with_copies(tensors, "backbone.patch_embed") if kind == "ipl" else tensors, (), trained)


def saved_options(checkpoint: Checkpoint, name: str) -> dict[str, object]:
    """What else the builder of model `name` must be told for these weights to fit.

    Raises:
        InputError: the file states something that is no such option.
    """
    spec = model_spec(name)
    if checkpoint.kind != "duotrack":
        return {}
    if spec.method == "patrack":
        return {"routing": _routing(checkpoint.metadata.get("routing", "released"))}
    if spec.method != "tpf" or checkpoint.metadata.get("model") != name:
        return {}
    options = stated_options(checkpoint.metadata)
    return {} if options is None else {"options": options}


def model_for(checkpoint: Checkpoint) -> str:
    """The model that a checkpoint is for.

    Raises:
        InputError: duotrack weights that name a model which this version does not have.
    """
    if checkpoint.kind == "duotrack" and "model" in checkpoint.metadata:
        return model_spec(checkpoint.metadata["model"]).name
    if checkpoint.kind == "duotrack":  # a checkpoint of a run: only our small models have keys of their own
        return "ipl-tiny" if "backbone.mst_rgb_token" in checkpoint.tensors else "ckd-tiny"
    return {"hiera": "ckd-tiny", "ipl": "ipl-base", "patrack": "patrack-base"}.get(checkpoint.kind, "ckd-base")


def model_shapes(name: str, *, teachers: bool = False, **options: object) -> dict[str, Shape]:
    """Every state-dict key of a model and its shape, `options` as `saved_options` gives them; takes no memory."""
    spec = model_spec(name)
    return shapes_of(build_on_meta(spec, **_options(spec, None, teachers=teachers), **options).state_dict())


def _routing(saved: str) -> str:
    if saved not in ROUTINGS:
        raise InputError(f"the weights ask for routing '{shown(saved)}', which is not one of {', '.join(ROUTINGS)}")
    return saved


def _options(spec: ModelSpec, elimination: str | None, **switches: bool) -> dict[str, object]:
    """What to build a network with: an elimination that it knows, and the switches of CKD that are on."""
    mode = elimination_of(spec, elimination)
    if switches.get("teachers") and spec.method != "ckd":
        raise InputError(f"{spec.name} has no training form with teachers, only CKD has; leave teachers out")
    return {"elimination": mode} | {name: True for name, on in switches.items() if on}
