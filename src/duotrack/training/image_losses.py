"""How far one image is from another: pixels, structure, edges (ours; docs/specs/tpf.md, section 4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def image_distance(images: Tensor, targets: Tensor, *, l1: float, ssim: float, grad: float) -> Tensor:
    """l1 mean|F - I| + ssim (1 - SSIM) + grad mean|Sobel F - Sobel I|, each mean over one image; in float32.

    Args:
        images: (B, 3, H, W) in about [0, 1]. targets: (..., B, 3, H, W) of the same sides, at least 11.
        l1, ssim, grad: weights.

    Returns:
        (..., B), 0 where the images are equal.
    """
    with torch.autocast(images.device.type, enabled=False):
        images, targets = images.float(), targets.float()
        total = l1 * _mean(images - targets)
        if ssim:
            total = total + ssim * (1 - structural_similarity(images, targets))
        if grad:
            total = total + grad * _mean(sobel(images) - sobel(targets))
        return total


def structural_similarity(images: Tensor, targets: Tensor) -> Tensor:
    """SSIM (Wang et al., 2004): window 11, sigma 1.5, data range 1, per channel, inside the image; shapes as above."""
    places = torch.arange(WINDOW, dtype=torch.float32, device=images.device) - WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    mean_f, mean_i = _blur(images, weights), _blur(targets, weights)
    var_f, var_i = (_blur(x * x, weights) - m * m for x, m in ((images, mean_f), (targets, mean_i)))
    both = _blur(images * targets, weights) - mean_f * mean_i
    light = (2 * mean_f * mean_i + _C1) / (mean_f**2 + mean_i**2 + _C1)
    structure = (2 * both + _C2) / (var_f + var_i + _C2)
    return (light * structure).flatten(-3).mean(-1)


def sobel(images: Tensor) -> Tensor:
    """(..., 3, H, W) -> (..., 6, H - 2, W - 2): signed differences along x of each channel, then along y."""
    smooth, edge = images.new_tensor([1.0, 2.0, 1.0]), images.new_tensor([-1.0, 0.0, 1.0])
    return torch.cat([_separable(images, smooth, edge), _separable(images, edge, smooth)], dim=-3)


def _blur(images: Tensor, weights: Tensor) -> Tensor:
    return _separable(images, weights, weights)


def _separable(images: Tensor, down: Tensor, along: Tensor) -> Tensor:
    """Correlate each channel with `down` along columns and `along` rows, without padding."""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = F.conv2d(F.conv2d(flat, down.view(1, 1, -1, 1)), along.view(1, 1, 1, -1))
    return flat.reshape(*images.shape[:-2], *flat.shape[-2:])


def _mean(difference: Tensor) -> Tensor:
    return difference.abs().flatten(-3).mean(-1)
