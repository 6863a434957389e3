"""TPF's weights: the options that a file carries, and what a network begins from (docs/specs/tpf.md, 3.2)."""

from collections.abc import Mapping

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.models.tpf_options import TPFOptions
from duotrack.weights.convert import droptrack_to_ostrack, hiera_to_tiny
from duotrack.weights.keymap import shown

KEY = "options"
"""Entry of a file's metadata that holds `TPFOptions` as JSON."""
OWN = ("fusion.", "gate.", "template_slots")
"""Key prefixes of what TPF puts around a single-stream tracker; they begin at values that change next to nothing."""
GATE = ("gate.",)
_MAX_TEXT = 2000


def carried(net: object) -> dict[str, str]:
    """Metadata that must travel with a network's weights: its options, where it has any."""
    options = getattr(net, "options", None)
    return {KEY: options.model_dump_json()} if isinstance(options, TPFOptions) else {}


def stated_options(metadata: Mapping[str, str]) -> TPFOptions | None:
    """The options that a file was saved with; None where it states none.

    Raises:
        InputError: it states something that is not a sane set of options.
    """
    text = metadata.get(KEY)
    if text is None:
        return None
    try:
        if len(text) > _MAX_TEXT:
            raise ValueError("longer than any options are")
        return TPFOptions.model_validate_json(text)
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]])) if first else str(error)
        raise InputError(
            f"the weights state options that no TPF network has ({shown(what)}); save them again, or take others"
        ) from error


def starting_tensors(kind: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights of a single-stream tracker, or of its backbone, under TPF's keys; and what they cannot give.

    `kind` "ostrack" and "droptrack" fit tpf-base key by key, "hiera" the stem and blocks of tpf-tiny; "duotrack" means
    weights of ckd-tiny, see `tiny_to_tpf`.
    """
    if kind == "droptrack":
        return droptrack_to_ostrack(tensors), OWN
    if kind == "hiera":
        ours = {_backbone(key): tensor for key, tensor in hiera_to_tiny(tensors, teachers=False).items()}
        return ours, (*OWN, "box_head.", "backbone.pos_embed_", "backbone.norm.")
    return (tiny_to_tpf(tensors) if kind == "duotrack" else dict(tensors)), OWN


def tiny_to_tpf(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ckd-tiny -> tpf-tiny: what ckd-tiny does with one modality alone, whose features it takes for both.

    Its head reads [x; x] there, so the halves of the first convolution are added.
    """
    result = {_backbone(key): tensor for key, tensor in tensors.items()}
    key = "box_head.squeeze.weight"
    wide = result.get(key)
    if wide is not None and wide.dim() == 4 and wide.shape[1] % 2 == 0:
        result[key] = torch.stack(wide.float().chunk(2, dim=1)).sum(0)
    return result


def check_agreement(net: nn.Module, metadata: Mapping[str, str]) -> None:
    """That weights to go on from were saved by a network of the same options as `net`.

    Gate options count only where the weights have a gate, and whether it answers may change.

    Raises:
        InputError: they differ; names the first difference.
    """
    ours, theirs = getattr(net, "options", None), stated_options(metadata)
    if not isinstance(ours, TPFOptions) or theirs is None:
        return
    pairs = {f"pfa.{name}": (value, getattr(ours.adapter, name)) for name, value in theirs.adapter}
    if theirs.bottleneck is not None:
        pairs |= {f"drf.{name}": (getattr(theirs, name), getattr(ours, name)) for name in ("level", "bottleneck")}
    for name, (saved, asked) in pairs.items():
        if saved != asked:
            raise InputError(
                f"the weights were trained with {name} {saved!r}, the recipe has {asked!r}; --set method.{name}={saved}"
            )


def _backbone(key: str) -> str:
    return key.replace("branch.", "backbone.", 1) if key.startswith("branch.") else key
