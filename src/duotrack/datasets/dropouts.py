"""Drawing masks of missing modalities: which sequence loses how much, and which frames.

Source: docs/specs/ipl.md, section 8.2. Everything is drawn from the raw bits of PCG64 seeded by a hash of (seed, data
set, sequence), which no version of NumPy changes: the same seed gives the same masks anywhere, whatever else is drawn
before. They are not the published masks, whose draws are not known.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.random import PCG64
from numpy.typing import NDArray

from duotrack.datasets.missing import Mask
from duotrack.datasets.patterns import PATTERNS, RATIOS, Loss, Pattern, missing_frames

SEED = 42
_CUTS = (6, 4, 2)
"""Into how many parts of the video's length a swap cuts it: after each the other modality is missing."""


def deal_patterns(
    lengths: Mapping[str, int], *, dataset: str, seed: int = SEED, patterns: Sequence[Pattern] = PATTERNS
) -> dict[str, Loss]:
    """Give each sequence a pattern, so that all patterns get sequences of like lengths (step 1 of the specification).

    Args:
        lengths: sequence name -> number of frames, in any order.
        dataset: part of the seed.
        seed: another one makes another deal.
        patterns: those to deal.

    Returns:
        Longest sequence first, ratios None.
    """
    order = _longest_first(lengths)
    stream = _stream(seed, dataset, "patterns")
    dealt: dict[str, Pattern] = {}
    for names in _batches(order, len(patterns)):
        dealt |= zip(_shuffled(names, stream), patterns, strict=False)
    return {name: Loss(lengths[name], dealt[name]) for name in order}


def deal_ratios(
    losses: Mapping[str, Loss], *, dataset: str, seed: int = SEED, ratios: Sequence[float] = RATIOS
) -> dict[str, Loss]:
    """Give each sequence of a pattern a ratio, so that all ratios get sequences of like lengths (step 2).

    Where the number of sequences is no multiple of that of ratios, the large ratios get one more.
    """
    dealt: dict[str, float] = {}
    for pattern in PATTERNS:
        stream = _stream(seed, dataset, "ratios", pattern)
        group = _longest_first({name: loss.frames for name, loss in losses.items() if loss.pattern == pattern})
        for names in _batches(group, len(ratios)):
            order = ratios if len(names) == len(ratios) else ratios[::-1]
            dealt |= zip(_shuffled(names, stream), order, strict=False)
    return {name: replace(loss, ratio=dealt[name]) for name, loss in losses.items()}


def draw_masks(losses: Mapping[str, Loss], *, dataset: str, seed: int = SEED) -> dict[str, Mask]:
    """A mask for each sequence (step 3): none depends on which others there are.

    Args:
        losses: with ratios.
        dataset, seed: another of either makes other masks.
    """
    return {
        name: draw_mask(loss.frames, loss.pattern, loss.ratio or 0.0, _stream(seed, dataset, "mask", name))
        for name, loss in losses.items()
    }


def draw_mask(frames: int, pattern: Pattern, ratio: float, stream: PCG64) -> Mask:
    """(frames, 2) mask in which exactly int(frames * ratio) rows lack a modality; row 0 is complete.

    random: frames anywhere, each lacks one, the other or both. long_term: one modality, in one block. swap: one block,
    in which the missing modality changes after every unit, a sixth, quarter or half of the video. `_and_random`: half
    of the block's frames, anywhere in it, lack both.
    """
    mask = np.ones((frames, 2), np.bool_)
    count = missing_frames(frames, ratio)
    if pattern == "random":
        chosen = 1 + _order(frames - 1, stream)[:count]
        case = stream.random_raw(count) % 3  # 0: no rgb, 1: no aux, 2: neither
        mask[chosen[case != 1], 0] = False
        mask[chosen[case != 0], 1] = False
        return mask
    block = 1 + _below(frames - count, stream) + np.arange(count) if count else np.arange(0)
    first, cut = _below(2, stream), _CUTS[_below(3, stream)]
    unit = max(1, frames // cut) if pattern.startswith("swap") else frames
    mask[block, (first + np.arange(count) // unit) % 2] = False
    if pattern.endswith("_and_random"):
        mask[block[_order(count, stream)[: count // 2]]] = False
    return mask


def _stream(*seed: object) -> PCG64:
    key = "\0".join(map(str, seed)).encode()
    return PCG64(int.from_bytes(hashlib.sha256(key).digest(), "big"))


def _order(count: int, stream: PCG64) -> NDArray[np.int64]:
    """0 .. count - 1, shuffled."""
    return np.argsort(stream.random_raw(count), kind="stable").astype(np.int64)


def _below(bound: int, stream: PCG64) -> int:
    """0 .. bound - 1; 64 bits make every one as likely as another but for parts in 10^12."""
    return int(stream.random_raw()) % bound


def _shuffled(names: Sequence[str], stream: PCG64) -> list[str]:
    return [names[i] for i in _order(len(names), stream)]


def _longest_first(lengths: Mapping[str, int]) -> list[str]:
    return sorted(lengths, key=lambda name: (-lengths[name], name))


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
