"""By which pattern each sequence of a modality-missing benchmark loses frames, and what share of them.

Two kinds of JSON, plain or gzip (docs/specs/ipl.md, section 8): `groups_data_<tag>` gives each sequence a pattern,
`subgroups_data_<tag>` a pattern and a ratio. Written files are those published, byte for byte.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from duotrack.datasets.missing import ABOUT, MAX_FRAMES, Mask, read_object
from duotrack.errors import InputError, nearest
from duotrack.files import write_text

Pattern = Literal["random", "long_term", "swap", "long_term_and_random", "swap_and_random"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
RATIOS = (0.3, 0.6, 0.9)
"""The shares of frames that the published benchmarks lose."""


@dataclass(frozen=True)
class Loss:
    """What a sequence of so many frames is to lose: by which pattern, and which share (None: not settled yet)."""

    frames: int
    pattern: Pattern
    ratio: float | None = None


def read_losses(path: str | Path) -> dict[str, Loss]:
    """Sequence name -> what it loses, of a `subgroups_data` or (ratios None) a `groups_data` file.

    Raises:
        InputError: no such file, no JSON of that form, too many frames, or a sequence that is there twice or has a bad
            number of frames, pattern or ratio; names the sequence.
    """
    losses: dict[str, Loss] = {}
    total = 0
    for key, group in read_object(path).items():
        parts = group.values() if isinstance(group, dict) and "sequences" not in group else [group]
        for part in parts:
            if not isinstance(part, dict) or not isinstance(part.get("sequences"), list):
                raise InputError(f"{path}: {key[:60]!r} lists no sequences{ABOUT}")
            pattern = _pattern(path, part.get("missing_function"))
            for entry in part["sequences"]:
                name, loss = _loss(path, entry, pattern)
                if name in losses:
                    raise InputError(f"{path}: sequence {name!r} is there twice; each has one pattern and one ratio")
                losses[name] = loss
                total += loss.frames
                if total > MAX_FRAMES:
                    raise InputError(f"{path}: over {MAX_FRAMES} frames with sequence {name!r}{ABOUT}")
    if not losses:
        raise InputError(f"{path}: holds no sequence{ABOUT}")
    if len({loss.ratio is None for loss in losses.values()}) > 1:
        raise InputError(f"{path}: some sequences have a ratio and some have none{ABOUT}")
    return losses


def write_groups(path: str | Path, losses: Mapping[str, Loss]) -> None:
    """Write a `groups_data` file; sequences stand in the order of `losses`."""
    content = {
        _group(pattern): {
            "missing_function": f"{pattern}_missing",
            "sequences": [
                [name, {"frames": loss.frames, "modalities": []}]
                for name, loss in losses.items()
                if loss.pattern == pattern
            ],
        }
        for pattern in _used(losses)
    }
    write_text(path, json.dumps(content, indent=4))


def write_subgroups(path: str | Path, losses: Mapping[str, Loss]) -> None:
    """Write a `subgroups_data` file; sequences stand in the order of `losses`, each with a ratio."""
    ratios = sorted({loss.ratio for loss in losses.values() if loss.ratio is not None})
    content = {
        _group(pattern): {
            f"{_group(pattern)}_SubGroup{number}": {
                "missing_function": f"{pattern}_missing",
                "sequences": [
                    [name, {"frames": loss.frames, "modalities": []}, loss.ratio]
                    for name, loss in losses.items()
                    if (loss.pattern, loss.ratio) == (pattern, ratio)
                ],
            }
            for number, ratio in enumerate(ratios, 1)
        }
        for pattern in _used(losses)
    }
    write_text(path, json.dumps(content, indent=4))


def check_shares(path: str | Path, masks: Mapping[str, Mask], losses: Mapping[str, Loss]) -> None:
    """Refuse masks that do not lose what `losses`, which have ratios, say: int(frames * ratio) frames of each sequence.

    Raises:
        InputError: another number of frames lacks a modality; names the sequence.
    """
    for name, mask in masks.items():
        ratio = losses[name].ratio
        wanted, got = missing_frames(len(mask), ratio or 0.0), int((~mask).any(axis=1).sum())
        if got != wanted:
            raise InputError(
                f"{path}: {got} frames of sequence {name!r} lack a modality, its ratio {ratio} says {wanted}; "
                "do masks and subgroups belong together?"
            )


def missing_frames(frames: int, ratio: float) -> int:
    """How many of so many frames lack a modality: truncated (docs/specs/ipl.md, section 8.1); the first never does."""
    return min(int(frames * ratio), frames - 1)


def _used(losses: Mapping[str, Loss]) -> list[Pattern]:
    used = {loss.pattern for loss in losses.values()}
    return [pattern for pattern in PATTERNS if pattern in used]


def _group(pattern: Pattern) -> str:
    return f"Group{PATTERNS.index(pattern) + 1}_{pattern}_missing"


def _pattern(path: str | Path, function: object) -> Pattern:
    name = str(function)[:60].removesuffix("_missing")
    found = next((pattern for pattern in PATTERNS if pattern == name), None)
    if found is None:
        raise InputError(f"{path}: pattern {name!r} is not known{nearest(name, list(PATTERNS))}")
    return found


def _loss(path: str | Path, entry: object, pattern: Pattern) -> tuple[str, Loss]:
    if not isinstance(entry, list) or len(entry) not in (2, 3) or not isinstance(entry[0], str):
        raise InputError(f'{path}: {str(entry)[:60]} is not [name, {{"frames": F}}] or [name, {{"frames": F}}, ratio]')
    name, about, *rest = entry
    frames = about.get("frames") if isinstance(about, dict) else None
    if isinstance(frames, bool) or not isinstance(frames, int) or not 1 <= frames <= MAX_FRAMES:
        raise InputError(
            f"{path}: sequence {name[:60]!r} has {str(frames)[:20]} frames; 1 to {MAX_FRAMES} are possible"
        )
    if rest and (isinstance(rest[0], bool) or not isinstance(rest[0], float) or not 0 < rest[0] < 1):
        raise InputError(f"{path}: sequence {name[:60]!r} has ratio {str(rest[0])[:20]}; it lies between 0 and 1")
    return name, Loss(frames, pattern, rest[0] if rest else None)
