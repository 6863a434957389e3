"""A mask file laid over a benchmark: its sequences without what is missing, its ground truths by pattern and ratio."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from duotrack.datasets.ground_truth import GroundTruth
from duotrack.datasets.missing import Mask, check_rows, digest, read_masks
from duotrack.datasets.patterns import PATTERNS, Loss, check_shares, read_losses
from duotrack.datasets.sequence import Sequence as Frames
from duotrack.errors import InputError

AVAILABILITY = ("complete", "rgb_only", "aux_only", "neither")


@dataclass(frozen=True, eq=False)
class Masked:
    """Masks and, where they are known, the pattern and ratio of each sequence; `path` is for messages."""

    path: Path
    masks: dict[str, Mask]
    losses: dict[str, Loss] | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the masks."""
        return digest(self.masks)

    def sequences(self, sequences: Iterable[Frames], *, known: Iterable[str] | None = None) -> list[Frames]:
        """The sequences with the images gone that the masks say are missing; the first frame stays whole.

        Args:
            sequences: those wanted.
            known: every sequence of the data set, None where that is not known.

        Raises:
            InputError: a mask is not of the data set, of another length, or not there; names the sequence.
        """
        wanted = list(sequences)
        lengths = {sequence.name: len(sequence) for sequence in wanted}
        check_rows(self.path, {name: len(mask) for name, mask in self.masks.items()}, lengths, known=known)
        return [replace(sequence, mask=_first_whole(self.masks[sequence.name])) for sequence in wanted]

    def check(self, truths: Sequence[GroundTruth], *, known: Iterable[str]) -> None:
        """Refuse masks that are not of these ground truths.

        Raises:
            InputError: as `sequences`.
        """
        rows = {name: len(mask) for name, mask in self.masks.items()}
        lengths = {truth.name: _frames(truth, rows.get(truth.name, 0)) for truth in truths}
        check_rows(self.path, rows, lengths, known=known)

    def groups(self) -> dict[str, dict[str, frozenset[str]]]:
        """ "pattern" and "ratio" -> each of them -> its sequences; empty where they are not known."""
        if self.losses is None:
            return {}
        by_pattern = {each: _having(self.losses, pattern=each) for each in PATTERNS}
        ratios = sorted({loss.ratio for loss in self.losses.values() if loss.ratio is not None})
        by_ratio = {f"{each:g}": _having(self.losses, ratio=each) for each in ratios}
        return {"pattern": {key: names for key, names in by_pattern.items() if names}, "ratio": by_ratio}


def open_masked(path: str | Path, subgroups: str | Path | None = None) -> Masked:
    """Masks of a `missing_results` file, and what each sequence loses.

    Args:
        path: the file.
        subgroups: the `subgroups_data` file; None for the one beside the masks, `subgroups_data_<tag>.json[.gz]` of
            `missing_results_<tag>.json[.gz]`, if it is there.

    Raises:
        InputError: a file is bad, or the two do not belong together; names the sequence.
    """
    path = Path(path)
    masks = read_masks(path)
    source = _beside(path) if subgroups is None else Path(subgroups)
    if source is None:
        return Masked(path, masks, None)
    losses = read_losses(source)
    if any(loss.ratio is None for loss in losses.values()):
        raise InputError(f"{source}: gives patterns without ratios; give the subgroups_data file")
    check_rows(source, {name: loss.frames for name, loss in losses.items()}, {k: len(m) for k, m in masks.items()})
    check_shares(path, masks, losses)
    return Masked(path, masks, losses)


def availability(masks: Iterable[Mask]) -> dict[str, int]:
    """Frames by what they have: "complete", "rgb_only", "aux_only", "neither"."""
    rows = [2 * ~mask[:, 0] + ~mask[:, 1] for mask in masks]
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *rows]), minlength=4)
    return dict(zip(AVAILABILITY, counts.tolist(), strict=True))


def _first_whole(mask: Mask) -> Mask:
    whole = mask.copy()
    whole[0] = True
    return whole


def _having(losses: Mapping[str, Loss], *, pattern: str | None = None, ratio: float | None = None) -> frozenset[str]:
    return frozenset(
        name for name, loss in losses.items() if pattern in (None, loss.pattern) and ratio in (None, loss.ratio)
    )


def _beside(path: Path) -> Path | None:
    found = re.fullmatch(r"missing_results_(.+?)\.json(\.gz)?", path.name)
    places = [path.with_name(f"subgroups_data_{found[1]}.json{end}") for end in ("", ".gz")] if found else []
    return next((place for place in places if place.is_file()), None)


def _frames(truth: GroundTruth, rows: int) -> int:
    """How many frames the sequence has; one annotated now and then may have some more after its last box: `rows`."""
    last = int(truth.frames[-1])
    every = last - int(truth.frames[-2]) if len(truth) > 1 else 1
    return rows if last < rows <= last + every else last + 1
