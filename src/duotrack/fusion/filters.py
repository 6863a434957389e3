"""Filters that the fusion rules are made of; all take (B, C, H, W) of any size and keep the type."""

import torch
from torch import Tensor
from torch.nn import functional as F


def box(image: Tensor, radius: int) -> Tensor:
    """The mean over (2 radius + 1)^2 pixels, at the rim over those that are there.

    Window sums are built by doubling: few passes, and exact to rounding at every radius (running sums lose digits).
    """
    for dim in (3, 2):
        length = image.shape[dim]
        margin = (radius, radius) if dim == 3 else (0, 0, radius, radius)
        at = torch.arange(length, device=image.device)
        count = (at + radius).clamp(max=length - 1) - (at - radius).clamp(min=0) + 1
        image = _window_sums(F.pad(image, margin), 2 * radius + 1, dim) / count.view((1, -1) if dim == 3 else (-1, 1))
    return image


def _window_sums(image: Tensor, size: int, dim: int) -> Tensor:
    """Sums over `size` neighbours along `dim`, which gets shorter by size - 1."""
    length = image.shape[dim] - size + 1
    total, done, sums, width = None, 0, image, 1
    while True:
        if size & width:
            part = sums.narrow(dim, done, length)
            total = part if total is None else total + part
            done += width
        if 2 * width > size:
            assert total is not None  # size is at least 1
            return total
        rest = sums.shape[dim] - width
        sums, width = sums.narrow(dim, 0, rest) + sums.narrow(dim, width, rest), 2 * width


def edges(image: Tensor) -> Tensor:
    """The 4-neighbour Laplacian, the rim repeated outwards."""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    around = wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:] + wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1]
    return around - 4 * image


def guided_filter(guide: Tensor, image: Tensor, *, radius: int, epsilon: float) -> Tensor:
    """`image` smoothed along the edges of `guide`, both (B, 1, H, W) (docs/specs/tpf.md, section 7.2).

    Computed in float64: in a flat region the variance is a difference of nearly equal numbers, and epsilon is small.
    """
    i, p = guide.double(), image.double()
    mean_i, mean_p, mean_ip, mean_ii = box(torch.cat([i, p, i * p, i * i], dim=1), radius).chunk(4, dim=1)
    a = (mean_ip - mean_i * mean_p) / (mean_ii - mean_i * mean_i + epsilon)
    slope, offset = box(torch.cat([a, mean_p - a * mean_i], dim=1), radius).chunk(2, dim=1)
    return (slope * i + offset).to(image.dtype)


def pyramid_down(image: Tensor) -> Tensor:
    """Blurred by [1 4 6 4 1] / 16 both ways, then every second sample from the first; sides of 3 or more."""
    for dim in (3, 2):
        length = image.shape[dim]
        half = (length + 1) // 2
        wide = F.pad(image, (2, 2, 0, 0) if dim == 3 else (0, 0, 2, 2), mode="reflect")
        taps = [_every_second(wide, dim, tap, half) for tap in range(5)]
        image = (taps[0] + taps[4]) / 16 + (taps[1] + taps[3]) / 4 + taps[2] * (6 / 16)
    return image


def pyramid_up(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Zeros put between the samples up to `size` (rows, columns), blurred as in `pyramid_down`, times four."""
    for dim, length in ((3, size[1]), (2, size[0])):
        half = image.shape[dim]
        # zeros at odd places stay there under reflection, so that even and odd places have formulas of their own
        before, after = image.narrow(dim, 1, 1), image.narrow(dim, half - 2 if length % 2 else half - 1, 1)
        wide = torch.cat([before, image, after], dim=dim)
        left, here, right = (wide.narrow(dim, start, half) for start in range(3))
        even, odd = (left + right) / 8 + here * 0.75, (here + right) / 2
        image = torch.stack([even, odd], dim=dim + 1).flatten(dim, dim + 1).narrow(dim, 0, length)
    return image


def _every_second(image: Tensor, dim: int, start: int, count: int) -> Tensor:
    stop = start + 2 * count - 1
    return image[..., start:stop:2] if dim == 3 else image[..., start:stop:2, :]
