"""Dropping search tokens that a template token does not look at.

Candidate elimination comes from OSTrack (Ye et al., ECCV 2022), its multi-modal form from CKD (ACM MM 2024); rules in
docs/specs/ckd.md, sections 1.4 and 2.5. Kept tokens stay in raster order unless asked otherwise: blocks do not care
about order and the final scatter restores places, so this changes results by no more than rounding.
"""

import math
from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor

MODES = ("mce", "ce", "none")


def template_centre(grid: int) -> int:
    """Raster index of the template token at the middle of a grid x grid template (27 of 64 for 8 x 8)."""
    middle = (grid - 1) // 2
    return middle * grid + middle


def elimination_score(rows: list[Tensor]) -> Tensor:
    """Score of each search token from the centre row's attention.

    Args:
        rows: one (B, heads, S) post-softmax slice a modality; one alone gives plain candidate elimination.

    Returns:
        (B, S): the maximum over modalities, then the mean over heads.
    """
    return reduce(torch.maximum, rows).mean(dim=1)


def keep_best(score: Tensor, ratio: float, *, by_score: bool = False) -> Tensor | None:
    """Indices (B, k) int64 of the ceil(ratio * S) best of (B, S) scores; None when all would stay.

    Ascending, or with `by_score` the best one first (docs/specs/ipl.md, section 2.4): blocks do not care, a loss that
    compares tokens of two streams by rank does.
    """
    total = score.shape[1]
    count = math.ceil(ratio * total)
    if count >= total:
        return None
    best = score.topk(count, dim=1, sorted=by_score).indices
    return best if by_score else best.sort(dim=1).values


def take_search(tokens: Tensor, template: int, kept: Tensor) -> Tensor:
    """Keep all `template` tokens and the chosen search tokens: (B, T + S, C), (B, k) -> (B, T + k, C).

    `kept` is not checked: places beyond S would be another sample's.
    """
    b, n, c = tokens.shape
    ahead = torch.arange(template, device=kept.device).expand(b, -1)
    # whole rows at a time: `gather` looks up each number
    return tokens.reshape(-1, c).index_select(0, _rows(torch.cat([ahead, kept + template], dim=1), n)).view(b, -1, c)


def restore_search(tokens: Tensor, template: int, positions: Tensor, total: int) -> Tensor:
    """Put search tokens back at their original positions, zeros elsewhere: (B, T + k, C) -> (B, T + total, C)."""
    b, _, c = tokens.shape
    full = tokens.new_zeros(b * total, c)
    full = full.index_copy(0, _rows(positions, total), tokens[:, template:].reshape(-1, c)).view(b, total, c)
    return torch.cat([tokens[:, :template], full], dim=1) if template else full


def _rows(places: Tensor, count: int) -> Tensor:
    """Of (B, n) places among `count` each the rows in all of them, one sample after the other: (B * n)."""
    starts = count * torch.arange(places.shape[0], device=places.device)
    return (places + starts.unsqueeze(1)).flatten()


def stretches(blocks: int, stages: Iterable[int]) -> list[tuple[slice, int | None]]:
    """Blocks that only pass tokens on, and the one that eliminates after them, None after the last ones."""
    runs: list[tuple[slice, int | None]] = []
    begin = 0
    for stage in sorted({stage for stage in stages if 0 <= stage < blocks}):
        runs.append((slice(begin, stage), stage))
        begin = stage + 1
    return [*runs, (slice(begin, None), None)]


def removed_positions(kept: list[Tensor], total: int) -> list[Tensor]:
    """From the positions kept after each stage, the (B, r) positions that each stage removed, ascending."""
    batch = kept[0].shape[0] if kept else 0
    removed = []
    alive = torch.ones(batch, total, dtype=torch.bool)
    for positions in kept:
        now = torch.zeros(batch, total, dtype=torch.bool).scatter(1, positions.cpu(), True)
        removed.append((alive & ~now).nonzero()[:, 1].view(batch, -1))
        alive = now
    return removed
