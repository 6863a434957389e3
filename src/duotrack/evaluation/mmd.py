"""Maximum mean discrepancy: how far apart two sets of features are (Gretton et al., JMLR 2012).

Kernel and bandwidths are ours (docs/specs/tpf.md, section 8): neither CKD's nor TPF's paper says what it takes, so only
values that were measured in the same way compare.
"""

import torch
from torch import Tensor

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Times the median squared distance; each is twice the one before, which `mmd2` relies on."""


def mmd2(x: Tensor, y: Tensor) -> float:
    """Unbiased estimate of the squared MMD under a mean of five Gaussian kernels exp(-d^2 / (2 s)).

    s = b * (median squared distance between any two of all rows) for each b of `BANDWIDTHS`. 0 in expectation where
    both sets come from one distribution (single values may be negative), at most 2.

    Args:
        x, y: (n, C) and (m, C), at least two rows each, drawn independently of each other.

    Raises:
        ValueError: fewer rows, or different widths.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or len(x) < 2 or len(y) < 2:
        raise ValueError(f"two sets of at least two rows of one width, got {tuple(x.shape)} and {tuple(y.shape)}")
    n, total = len(x), len(x) + len(y)
    rows = torch.cat([x, y]).double()
    rows = rows - rows.mean(0)  # distances stay, squares get small
    square = (rows**2).sum(1)
    distance = torch.addmm(square[:, None] + square, rows, rows.T, alpha=-2).clamp_(min=0).fill_diagonal_(0)
    distance = (distance / distance.max().clamp(min=1e-300)).float()  # differences are taken: half the bits are enough
    upper = torch.ones(total, total, dtype=torch.bool, device=rows.device).triu_(1)
    scale = distance[upper].median()
    if scale == 0:  # more than half of all pairs are equal: any other distance serves as well
        scale = distance.max()
    if scale == 0:
        return 0.0
    kernel = torch.exp(-distance / (2 * BANDWIDTHS[-1] * scale))
    mixed = kernel.clone()
    for _ in BANDWIDTHS[1:]:
        kernel = kernel.square_()  # half the bandwidth
        mixed += kernel
    mixed /= len(BANDWIDTHS)
    within = [
        (part.sum(dtype=torch.float64) - len(part)) / (len(part) * (len(part) - 1))
        for part in (mixed[:n, :n], mixed[n:, n:])
    ]
    return float(within[0] + within[1] - 2 * mixed[:n, n:].mean(dtype=torch.float64))
