"""What a network was trained on, as far as its weights say: which auxiliary frames, and crops of which extent."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from duotrack.depth import Colours
from duotrack.errors import InputError
from duotrack.frames import Kind, kind_named
from duotrack.models.zoo import Geometry, ModelSpec
from duotrack.weights.build import packaged_weights
from duotrack.weights.described import DamagedError
from duotrack.weights.keymap import shown
from duotrack.weights.read import Checkpoint
from duotrack.weights.safetensor import open_safetensors

_log = logging.getLogger(__name__)
KEY, COLOURS_KEY, CROPS_KEY = "task", "depth_colours", "crops"
"""Entries of the metadata of our files; published checkpoints have none, and those of PATrack's tasks look alike."""
_CROPS_BEFORE = {"ckd-tiny": "2 4"}
"""Crops of files that do not state them; the other models' have not changed."""


def stated_kind(path: Path) -> Kind | None:
    """The kind that a weights file names; None where it names none, or is no safetensors file. Reads no tensors.

    Raises:
        InputError: it names something that is no kind.
    """
    named = _metadata(path).get(KEY)
    try:
        return None if named is None else kind_named(named)
    except InputError as error:
        raise InputError(f"{path}: its metadata name the task {shown(named)!r}: {error}") from error


@dataclass(frozen=True)
class Trained:
    """What auxiliary frames weights have seen; None where they do not say it. `source` names them in messages."""

    kind: Kind | None = None
    colours: Colours | None = None
    source: str = "the network"


NOTHING = Trained()


def trained_on(spec: ModelSpec, weights: str | Path | None) -> Trained:
    """What a model's weights say that they were trained on; of a file that is not there, nothing.

    Raises:
        InputError: they name something that is no kind.
    """
    path = packaged_weights(spec) if weights is None else Path(weights)
    if path is None or not path.is_file():  # who reads it says it
        return NOTHING
    return Trained(stated_kind(path), _stated_colours(path), str(path))


def stated_crops(geometry: Geometry) -> str:
    """A geometry's entry in the metadata: sides of template and search region over the target's."""
    return f"{geometry.template_factor:g} {geometry.search_factor:g}"


def warn_of_other_crops(spec: ModelSpec, weights: str | Path | None) -> None:
    """Say it where a file of ours was trained on template and search regions of another extent than the model has."""
    metadata = {} if weights is None else _metadata(Path(weights))
    if metadata.get("format") != "duotrack":
        return
    saw, has = metadata.get(CROPS_KEY, _CROPS_BEFORE.get(spec.name)), stated_crops(spec.geometry)
    if saw not in (None, has):
        words = [shown(" and ".join(each.split())) for each in (saw, has)]
        _log.warning(
            "%s was trained with template and search region %s times the target, %s now has %s times: "
            "its boxes will be less exact; train it on from there",
            weights,
            words[0],
            spec.name,
            words[1],
        )


def _stated_colours(path: Path) -> Colours | None:
    named = _metadata(path).get(COLOURS_KEY)
    for known in get_args(Colours):
        if named == known:
            return known
    if named is None:
        return None
    raise InputError(f"{path}: its metadata name the {COLOURS_KEY} {shown(named)!r}, which are bgr or rgb")


def settle_kind(
    spec: ModelSpec, weights: str | Path | Trained | None, wanted: Kind | None, *, colours: Colours = "bgr"
) -> Kind:
    """What a tracker's auxiliary frames show: as wanted, else as its weights say, else thermal.

    A thermal model may be tried on something else, with a warning: it was never measured. One that has weights for each
    kind may not.

    Args:
        spec: the model.
        weights: its file, None for the one in the package; or what they were trained on, where an export says it.
        wanted: what the caller's frames show.
        colours: how depth is going to be rendered.

    Raises:
        InputError: the weights were trained on another kind, or on depth in another order of colours.
    """
    trained = weights if isinstance(weights, Trained) else trained_on(spec, weights)
    stated = trained.kind
    kind = wanted or stated or "thermal"
    if (stated or "thermal") != kind and spec.kinds == ("thermal",) and stated in (None, "thermal"):
        _log.warning("%s has seen RGB and thermal only: how well it tracks with %s was not measured", spec.name, kind)
    elif stated is not None and stated != kind:
        raise InputError(
            f"{trained.source} was trained on RGB and {stated}, the auxiliary frames are {kind}; "
            f"give weights for {kind}, or say --modality {stated} (in `vot`: --channels) if the frames show that"
        )
    if kind == "depth" and trained.colours not in (None, colours):
        said = trained.colours
        raise InputError(
            f"{trained.source} was trained on depth with {COLOURS_KEY} {said!r}, not {colours!r}; "
            f"say --depth-colours {said}"
        )
    return kind


def converted_task(path: Path, checkpoint: Checkpoint, wanted: Kind | None) -> dict[str, str]:
    """The entries of the metadata with which the weights of `path` are written into a file of ours.

    A published PATrack checkpoint that saw depth saw it in the order bgr, which is written too.

    Args:
        path: the file. checkpoint: what it holds.
        wanted: what the caller says that it was trained on; None takes what the file says.

    Raises:
        InputError: a file of ours says something else.
    """
    stated = stated_kind(path) if checkpoint.kind == "duotrack" else None
    if None not in (stated, wanted) and stated != wanted:
        raise InputError(f"{path} says that it was trained on RGB and {stated}, not {wanted}; leave --modality out")
    kind = wanted or stated
    entries = {} if kind is None else {KEY: str(kind)}
    colours = checkpoint.metadata.get(COLOURS_KEY) if checkpoint.kind == "duotrack" else "bgr"
    if kind == "depth" and colours is not None:
        entries[COLOURS_KEY] = colours
    crops = checkpoint.metadata.get(CROPS_KEY) if checkpoint.kind == "duotrack" else None
    return entries if crops is None else entries | {CROPS_KEY: crops}


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] != b"{":
        return {}
    try:
        return open_safetensors(path)[1]
    except DamagedError:  # who reads the tensors says it better
        return {}
