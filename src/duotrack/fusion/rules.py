"""Classical fusion rules: no weights, plain tensor operations (docs/specs/tpf.md, section 7.2).

Which rules, and their constants, are ours: what MAD learns from them is no result of the paper's experts. Each takes
luma and thermal, (B, 1, H, W) in [0, 1], and gives (B, 1, H, W) in [0, 1], in the type it was given. Two equal images
come back as they are.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from duotrack.fusion.filters import box, edges, guided_filter, pyramid_down, pyramid_up

Rule = Callable[[Tensor, Tensor], Tensor]

_PYRAMID_LEVELS = 4
_GRADIENT_MARGIN = 16
_GRADIENT_PULL = 0.05


def average(luma: Tensor, thermal: Tensor, *, alpha: float = 0.5) -> Tensor:
    """alpha of the luma, the rest of the thermal image."""
    return alpha * luma + (1 - alpha) * thermal


def maximum(luma: Tensor, thermal: Tensor) -> Tensor:
    """The brighter of both at every pixel: hot targets."""
    return torch.maximum(luma, thermal)


def laplacian(luma: Tensor, thermal: Tensor) -> Tensor:
    """Laplacian pyramid of four levels: the stronger detail in 3 x 3 pixels wins, the coarse rest is averaged.

    Sides below 17 pixels have fewer levels, down to none.
    """
    coarse = torch.cat([luma, thermal])
    details: list[Tensor] = []
    while len(details) < _PYRAMID_LEVELS and min(coarse.shape[2:]) >= 3:  # reflection by 2 needs 3 pixels
        fine, coarse = coarse, pyramid_down(coarse)
        details.append(fine - pyramid_up(coarse, (fine.shape[2], fine.shape[3])))
    one, other = coarse.chunk(2)
    fused = (one + other) / 2
    for detail in reversed(details):
        one, other = detail.chunk(2)
        stronger, weaker = box(detail * detail, 1).chunk(2)
        fused = pyramid_up(fused, (one.shape[2], one.shape[3])) + torch.where(stronger >= weaker, one, other)
    return fused.clamp(0, 1)


def guided(luma: Tensor, thermal: Tensor) -> Tensor:
    """Two scales, each mixed by a saliency map that a guided filter bends to the edges of the luma."""
    both = torch.cat([luma, thermal])
    base = box(both, 15)
    base_y, base_t = base.chunk(2)
    detail_y, detail_t = (both - base).chunk(2)
    salient_y, salient_t = box(edges(both).abs(), 3).chunk(2)
    choice = (salient_y >= salient_t).to(luma.dtype)
    w_base = guided_filter(luma, choice, radius=22, epsilon=0.3).clamp(0, 1)
    w_detail = guided_filter(luma, choice, radius=3, epsilon=1e-6).clamp(0, 1)
    fused = w_base * base_y + (1 - w_base) * base_t + w_detail * detail_y + (1 - w_detail) * detail_t
    return fused.clamp(0, 1)


def gradmax(luma: Tensor, thermal: Tensor) -> Tensor:
    """The picture whose gradient is nearest to the stronger one of both, held to the brighter of both (by Fourier)."""
    height, width = luma.shape[2:]
    down, right = (min(_GRADIENT_MARGIN, side - 1) for side in (height, width))
    y, t = (F.pad(image, (right, right, down, down), mode="reflect") for image in (luma, thermal))
    (yx, yy), (tx, ty) = _differences(y), _differences(t)
    first = yx.square() + yy.square() >= tx.square() + ty.square()
    gx, gy, bright = torch.where(first, yx, tx), torch.where(first, yy, ty), torch.maximum(y, t)
    rows, columns = y.shape[2:]
    turn_x = _turn(torch.fft.rfftfreq(columns, dtype=y.dtype, device=y.device))
    turn_y = _turn(torch.fft.fftfreq(rows, dtype=y.dtype, device=y.device))[:, None]
    wanted = turn_x.conj() * torch.fft.rfft2(gx) + turn_y.conj() * torch.fft.rfft2(gy)
    wanted = wanted + _GRADIENT_PULL * torch.fft.rfft2(bright)
    fused = torch.fft.irfft2(
        wanted / (turn_x.abs().square() + turn_y.abs().square() + _GRADIENT_PULL), s=(rows, columns)
    )
    return fused[..., down : down + height, right : right + width].clamp(0, 1)


def _differences(image: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences across and down, the far rim followed by the near one."""
    return image.roll(-1, 3) - image, image.roll(-1, 2) - image


def _turn(frequency: Tensor) -> Tensor:
    """What a forward difference is to a wave of so many cycles a pixel."""
    angle = 2 * torch.pi * frequency
    return torch.complex(angle.cos() - 1, angle.sin())


RULES: Mapping[str, Rule] = {
    "average": average,
    "max": maximum,
    "laplacian": laplacian,
    "guided": guided,
    "gradmax": gradmax,
}
"""Built-in experts by name."""
