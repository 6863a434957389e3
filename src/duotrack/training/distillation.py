"""Style and content terms between lists of block features (docs/specs/ckd.md, section 2.4).

A list holds one (B, tokens, channels) tensor a block. Blocks of equal shape are stacked and computed at once; under
elimination that makes four groups instead of twelve.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from duotrack.models.attention import instance_norm

Over = Literal["tokens", "channels"]
Reduction = Literal["sum", "mean"]
Deviation = Literal["bessel", "population"]
_AXIS = {"tokens": -2, "channels": -1}


def per_block(xs: Sequence[Tensor], ys: Sequence[Tensor], term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply `term` ((L, B, N, C), (L, B, N, C)) -> (L,) to runs of equally shaped blocks; (blocks,) in order."""
    parts = []
    pairs = zip(xs, ys, strict=True)
    for _, group in groupby(pairs, key=lambda pair: pair[0].shape):
        run = list(group)
        parts.append(term(torch.stack([x for x, _ in run]).float(), torch.stack([y for _, y in run]).float()))
    return torch.cat(parts)


def style_term(x: Tensor, y: Tensor, *, over: Over = "tokens", deviation: Deviation = "bessel") -> Tensor:
    """Squared distance of means and standard deviations, averaged over batch and channels: (L, B, N, C) -> (L,).

    `over` "channels" takes the statistics over channels instead (the "token level" option of the release).
    """
    correction = 1 if deviation == "bessel" else 0
    dx, mx = torch.std_mean(x, dim=_AXIS[over], correction=correction)
    dy, my = torch.std_mean(y, dim=_AXIS[over], correction=correction)
    return ((mx - my) ** 2 + (dx - dy) ** 2).mean(dim=(1, 2))


def content_term(x: Tensor, y: Tensor, *, over: Over = "tokens") -> Tensor:
    """Mean squared error of the instance-normalised features: (L, B, N, C) -> (L,)."""
    return feature_term(instance_norm(x, axis=_AXIS[over]), instance_norm(y, axis=_AXIS[over]))


def feature_term(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of the features as they are ("undecoupled" distillation of the paper's Table V)."""
    return ((x - y) ** 2).mean(dim=(1, 2, 3))


def over_layers(terms: Tensor, reduction: Reduction) -> Tensor:
    """(blocks,) -> scalar: the sum of the release or the mean of the paper."""
    return terms.sum() if reduction == "sum" else terms.mean()
