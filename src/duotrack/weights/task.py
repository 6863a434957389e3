"""What auxiliary frames a network was trained on, as far as its weights say."""

import logging
from pathlib import Path

from duotrack.errors import InputError
from duotrack.frames import Kind, kind_named
from duotrack.models.zoo import ModelSpec
from duotrack.weights.build import packaged_weights
from duotrack.weights.described import DamagedError
from duotrack.weights.safetensor import open_safetensors

_log = logging.getLogger(__name__)
KEY = "task"
"""Entry of the metadata of our files; published checkpoints have none, and those of PATrack's tasks look alike."""


def stated_kind(path: Path) -> Kind | None:
    """The kind that a weights file names; None where it names none, or is no safetensors file. Reads no tensors.

    Raises:
        InputError: it names something that is no kind.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] != b"{":
        return None
    try:
        _, metadata = open_safetensors(path)
    except DamagedError:  # who reads the tensors says it better
        return None
    try:
        return kind_named(metadata[KEY]) if KEY in metadata else None
    except InputError as error:
        raise InputError(f"{path}: its metadata name the task {metadata[KEY][:40]!r}: {error}") from error


def settle_kind(spec: ModelSpec, weights: str | Path | None, wanted: Kind | None) -> Kind:
    """What a tracker's auxiliary frames show: as wanted, else as its weights say, else thermal.

    Weights that say nothing, of a model that is for other kinds, are worth a warning.

    Raises:
        InputError: the weights were trained on another kind than the wanted one.
    """
    path = packaged_weights(spec) if weights is None else Path(weights)
    stated = stated_kind(path) if path is not None and path.is_file() else None
    if wanted is None:
        return stated or "thermal"
    if stated is not None and stated != wanted:
        raise InputError(
            f"{path} was trained on RGB and {stated}, the auxiliary frames are {wanted}; give weights for {wanted}, "
            f"or say --modality {stated} if that is what the frames show"
        )
    if stated is None and wanted not in spec.kinds:
        _log.warning(
            "%s has seen RGB and %s only: how well it tracks with %s was not measured",
            spec.name,
            " or ".join(spec.kinds),
            wanted,
        )
    return wanted
