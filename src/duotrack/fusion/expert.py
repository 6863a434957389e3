"""A fusion expert: any callable that makes one picture of two, with everything checked that it hands back.

The interface is ours (docs/specs/tpf.md, section 7.1); the paper names no experts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.fusion.luma import luma_of, recolour, thermal_of
from duotrack.fusion.user_code import refusals_named

Fuse = Callable[[Tensor, Tensor], Tensor]

OVERSHOOT = 0.5
"""How far an expert may leave [0, 1] before it is clamped; further out it means another range (0 to 255, -1 to 1)."""
_MAX_DIVISOR = 1024


class MissingExpertError(InputError):
    """What an expert needs is not there: its weights, or its cache."""


@dataclass(frozen=True)
class Expert:
    """A fusion rule or network, made safe to call.

    Attributes:
        name: what messages and logs call it.
        fuse: `(rgb (B, 3, H, W), aux (B, 1 or 3, H, W)) -> (B, 3, H, W)`, all in [0, 1]; a `luma_only` one gets and
            gives (B, 1, H, W): luma and thermal. Samples must not influence each other.
        version: changes whenever the same images give another picture; part of the key of a cached frame.
        divisor: sides that `fuse` gets are multiples of it: images are continued by reflection and cut afterwards.
        luma_only: it knows grey images; the colours of `rgb` are put back.
        slow: takes seconds a frame; training takes such an expert from a cache only.
    """

    name: str
    fuse: Fuse
    version: str = "1"
    divisor: int = 1
    luma_only: bool = False
    slow: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.divisor, int) or not 1 <= self.divisor <= _MAX_DIVISOR:
            raise InputError(
                f"expert {self.name} wants sides that are multiples of {self.divisor!r}; its divisor is a whole number "
                f"from 1 to {_MAX_DIVISOR}"
            )

    def __call__(self, rgb: Tensor, aux: Tensor) -> Tensor:
        """Fuse.

        Args:
            rgb: (B, 3, H, W) in [0, 1]. aux: (B, 1 or 3, H, W) in [0, 1], same B, H, W and device.

        Returns:
            (B, 3, H, W) float32 in [0, 1] on the same device, without gradient.

        Raises:
            InputError: `fuse` raised something, or returned something else than a tensor, a wrong shape, NaN or
                another range; says so by name.
            ValueError: `rgb` and `aux` do not go together.
        """
        if rgb.ndim != 4 or rgb.shape[1] != 3 or aux.shape not in (rgb.shape, (len(rgb), 1, *rgb.shape[2:])):
            raise ValueError(f"rgb is (B, 3, H, W), aux (B, 1 or 3, H, W); got {tuple(rgb.shape)}, {tuple(aux.shape)}")
        with torch.no_grad(), torch.autocast(rgb.device.type, enabled=False):
            rgb, aux = rgb.detach().float(), aux.detach().float()
            height, width = rgb.shape[2:]
            # copies: what an expert writes into its images must not reach the next expert
            one, other = (luma_of(rgb), thermal_of(aux).clone()) if self.luma_only else (rgb.clone(), aux.clone())
            with refusals_named(f"expert {self.name}"):
                fused: object = self.fuse(*(continued(image, self.divisor) for image in (one, other)))
            fused = self._checked(fused, (len(rgb), one.shape[1], *_raised((height, width), self.divisor)))
            fused = fused[..., :height, :width].to(rgb)
            return (recolour(fused, rgb) if self.luma_only else fused).clamp(0, 1)

    def _checked(self, fused: object, shape: tuple[int, ...]) -> Tensor:
        if not isinstance(fused, Tensor):
            raise self._refusal(f"returned {type(fused).__name__}, not a tensor")
        if tuple(fused.shape) != shape:
            raise self._refusal(f"returned shape {tuple(fused.shape)} instead of {shape}")
        if fused.layout != torch.strided or fused.is_meta:
            raise self._refusal(f"returned a tensor without plain values ({fused.layout}, {fused.device})")
        if not fused.is_floating_point():
            raise self._refusal(f"returned {fused.dtype} instead of floating-point numbers in [0, 1]")
        low, high = (float(value) for value in torch.aminmax(fused.detach()))
        if not bool(torch.isfinite(fused).all()):
            bad = int((~torch.isfinite(fused)).sum())
            raise self._refusal(f"returned NaN or infinity in {bad} of {fused.numel()} values")
        if low < -OVERSHOOT or high > 1 + OVERSHOOT:
            raise self._refusal(f"returned values from {low:.3g} to {high:.3g} instead of [0, 1]")
        return fused.detach()

    def _refusal(self, what: str) -> InputError:
        return InputError(f"expert {self.name} {what}; mend it, or leave it out")


def continued(image: Tensor, divisor: int) -> Tensor:
    """(B, C, H, W) continued right and below by reflection up to the next multiples of `divisor`; any size."""
    for dim in (2, 3):
        length = image.shape[dim]
        wanted = -(-length // divisor) * divisor
        if wanted != length:
            at = torch.arange(wanted, device=image.device) % max(1, 2 * (length - 1))
            image = image.index_select(dim, torch.where(at < length, at, 2 * (length - 1) - at).clamp(min=0))
    return image


def _raised(sides: tuple[int, int], divisor: int) -> tuple[int, int]:
    return (-(-sides[0] // divisor) * divisor, -(-sides[1] // divisor) * divisor)


def on_device(net: nn.Module, device: torch.device) -> nn.Module:
    """`net`, moved where its images are if it is elsewhere."""
    first = next(net.parameters(), None)
    return net if first is None or first.device == device else net.to(device)
