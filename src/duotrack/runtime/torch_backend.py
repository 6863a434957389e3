"""Running a network with torch: where, and in which precision."""

import os
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from duotrack.errors import InputError, nearest
from duotrack.models.outputs import HeadMaps
from duotrack.runtime.mapped import give_back
from duotrack.runtime.packed import can_pack, pack
from duotrack.runtime.tile_library import Units, ready, suited
from duotrack.runtime.tiles import in_8_bits

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.bfloat16}
"""What a network's weights and arithmetic are; of int8, what layers that multiply in 8 bits give and take."""

Pair = tuple[Tensor | None, Tensor | None]


class HalfPrecision(nn.Module):
    """A network whose weights and arithmetic are in 16 bits; its callers see float32 on both sides.

    What it remembers of templates, if it does, stays in 16 bits. See `duotrack.runtime.deploy.deploy` for the other
    attributes.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net.to(dtype)
        self.dtype = dtype
        self.masks = bool(getattr(net, "masks", False))
        self.shared = bool(getattr(net, "shared", False))
        self.elimination = getattr(net, "elimination", None)

    def forward(self, *, template: Pair, search: Pair, **options: Any) -> HeadMaps:
        """As the wrapped network; images are cast on the way in, the three maps on the way out."""
        if options.get("dynamic") is not None:
            options["dynamic"] = self._cast(options["dynamic"])
        out: HeadMaps = self.net(template=self._cast(template), search=self._cast(search), **options)
        maps = {name: getattr(out, name).float() for name in ("score_map", "size_map", "offset_map")}
        return replace(out, **maps)

    def remember(self, template: Pair) -> Pair:
        """As the wrapped network, if it remembers templates; else they are kept as they are."""
        own = getattr(self.net, "remember", None)
        return template if own is None else own(self._cast(template))

    def remember_fused(self, image: Tensor) -> Pair:
        """As the wrapped network, which fuses pixels."""
        return self.net.remember_fused(image.to(self.dtype))  # type: ignore[operator]

    def _cast(self, pair: Pair) -> Pair:
        rgb, aux = (None if image is None else image.to(self.dtype) for image in pair)
        return rgb, aux


def keeps_templates(net: nn.Module) -> bool:
    """Whether a network makes of a template once what it needs of it (`remember`), in whatever precision."""
    return hasattr(net.net if isinstance(net, HalfPrecision) else net, "remember")


def resolve_device(device: str, precision: str = "fp32") -> torch.device:
    """The torch device that a name means, if this machine has it and it computes in `precision`.

    Args:
        device: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N".
        precision: "fp32", "bf16", "fp16" or "int8".

    Raises:
        InputError: an unknown or absent device, an unknown precision, fp16 on the CPU, or int8 where our kernels are
            not to be had.
    """
    if precision not in PRECISIONS:
        raise InputError(f"no precision is called {precision!r}{nearest(precision, list(PRECISIONS))}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if count else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (device.count(":") and not number.isdecimal()):
        raise InputError(f"no device is called {device!r}; use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not count:
        raise InputError(f"device {device!r}: torch {torch.__version__} finds no CUDA GPU here; use device cpu")
    if kind == "cuda" and number and int(number) >= count:
        raise InputError(f"device {device!r}: this machine has {count} CUDA GPUs, numbered from 0")
    if kind == "cpu" and precision == "fp16":
        raise InputError("precision fp16 needs a CUDA GPU; on the CPU use fp32, bf16 or int8")
    if precision == "int8":
        _require_int8(kind)
    return torch.device(kind, int(number)) if kind == "cuda" and number else torch.device(kind)


def _require_int8(kind: str) -> None:
    if kind == "cuda":
        raise InputError("backend torch computes in int8 on the CPU only; on CUDA use fp16 or bf16, or device cpu")
    said = os.environ.get("DUOTRACK_KERNELS")
    if not suited() or not can_pack(torch.device("cpu"), torch.bfloat16):
        reason = "this processor, or what torch may use of it, has no AVX-512 with bf16 and VNNI"
    elif ready():
        return
    elif said == "0" or (said in get_args(Units) and said not in suited()):
        reason = f"DUOTRACK_KERNELS is {said}; unset it"
    else:
        reason = "they could not be compiled or loaded; install g++ 11 or newer"
    raise InputError(
        f"backend torch computes in int8 with our own kernels, which cannot be used here: {reason}. Or use bf16, or "
        "backend openvino with a graph made by `duotrack export --precision int8`"
    )


def prepare(net: nn.Module, *, device: torch.device, precision: str = "fp32", packed: bool = False) -> nn.Module:
    """Move `net` to `device` for inference in `precision`; it takes and gives float32 whatever it computes in.

    Args:
        net: taken over. device: where it computes. precision: "fp32", "bf16", "fp16" or "int8".
        packed: lay out weights as this processor multiplies them (`duotrack.runtime.packed`), for running eagerly;
            in int8 they always are.

    On CUDA, fp32 turns TF32 off for the convolutions of the whole process.
    """
    dtype = PRECISIONS[precision]
    if device.type == "cuda" and dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # convolutions would round to 10 bits; products do not by themselves
    net = net.to(device).eval().requires_grad_(False)
    eight = in_8_bits(net) if precision == "int8" else None
    if dtype != torch.float32:
        net = HalfPrecision(net, dtype).eval()
    if (packed or eight is not None) and can_pack(device, dtype):
        pack(net, eight)
        give_back()  # the layers' own weights
    return net
