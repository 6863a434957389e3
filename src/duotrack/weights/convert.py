"""From published weights to ours: pure functions over tensors by key (docs/specs/ckd.md, sections 1.2 and 6)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from duotrack.errors import InputError
from duotrack.weights.keymap import VIT, hiera_key

Tensors = Mapping[str, Tensor]

_BRANCHES = {"rgb_branch.": False, "tir_branch.": False, "teacher_rgb.": True, "teacher_tir.": True}
_WIDE = tuple(f"conv1_{tower}.0.weight" for tower in ("ctr", "offset", "size"))
_MAX_GRID = 64
COUNT = ".num_batches_tracked"
"""Ending of the keys by which ordinary batch norms count; IPL's head keeps none."""


def resize_grid(embedding: Tensor, side: int, *, mode: str) -> Tensor:
    """Resize position embeddings of a square grid in raster order.

    Args:
        embedding: (1, n * n, C), any float type. side: new side. mode: "bicubic" or "bilinear" (corners not aligned).

    Returns:
        (1, side * side, C) float32; unchanged values where the grid has that side already.

    Raises:
        InputError: not (1, n * n, C).
    """
    old = round(embedding.shape[1] ** 0.5) if embedding.dim() == 3 else 0
    if embedding.dim() != 3 or embedding.shape[0] != 1 or old**2 != embedding.shape[1] or not 0 < old <= _MAX_GRID:
        raise InputError(
            f"position embeddings have shape {tuple(embedding.shape)}, not (1, n * n, channels) of a square grid"
        )
    if old == side:
        return embedding.float()
    grid = embedding.float().transpose(1, 2).reshape(1, -1, old, old)
    return F.interpolate(grid, size=(side, side), mode=mode, align_corners=False).flatten(2).transpose(1, 2)


def droptrack_to_ostrack(tensors: Tensors, *, template_grid: int = 8, search_grid: int = 16) -> dict[str, Tensor]:
    """DropTrack at 384 pixels -> plain OSTrack keys at 256: grids resized bilinearly, temporal embeddings added."""
    result = {key: tensor for key, tensor in tensors.items() if not key.startswith("backbone.temporal_pos_embed_")}
    for which, side in (("z", template_grid), ("x", search_grid)):
        key = f"backbone.pos_embed_{which}"
        if key not in tensors:
            raise InputError(f"the checkpoint lacks {key}; use a complete DropTrack checkpoint")
        grid = resize_grid(tensors[key], side, mode="bilinear")
        temporal = tensors.get(f"backbone.temporal_pos_embed_{which}")
        if temporal is not None:
            if temporal.numel() != grid.shape[-1]:
                raise InputError(
                    f"temporal embedding {which} has shape {tuple(temporal.shape)}, not (1, 1, {grid.shape[-1]})"
                )
            grid = grid + temporal.float().reshape(1, 1, -1)
        result[key] = grid
    return result


def mae_to_branch(tensors: Tensors, *, template_grid: int = 8, search_grid: int = 16) -> dict[str, Tensor]:
    """MAE -> keys of one branch: decoder dropped, both position embeddings derived bicubically from `pos_embed`."""
    result = {key: tensor for key, tensor in tensors.items() if is_vit_key(key)}
    if "pos_embed" not in result:
        raise InputError("the checkpoint lacks pos_embed; use a complete MAE checkpoint")
    grid = result["pos_embed"][:, 1:]  # the class token comes first
    result["pos_embed_z"] = resize_grid(grid, template_grid, mode="bicubic")
    result["pos_embed_x"] = resize_grid(grid, search_grid, mode="bicubic")
    return result


def is_vit_key(key: str) -> bool:
    """Whether a key of an MAE file belongs to the encoder."""
    return key.startswith(VIT) and not key.startswith("pos_embed_")


def copy_to_branches(branch: Tensors, *, teachers: bool) -> dict[str, Tensor]:
    """Bare ViT keys -> the same tensors under every branch of `ckd-base`."""
    prefixes = [prefix for prefix, teacher in _BRANCHES.items() if teachers or not teacher]
    return {prefix + key: tensor for prefix in prefixes for key, tensor in branch.items()}


def init_ckd(tensors: Tensors, *, teachers: bool) -> dict[str, Tensor]:
    """Plain OSTrack weights -> a new `ckd-base` before stage 1 (docs/specs/ckd.md, section 6).

    Every branch takes `backbone.*`, the teacher heads `box_head.*`. The fused head too, with the first convolutions
    repeated along their input channels without halving: it starts on the sum of both modalities' responses.
    """
    backbone = {key.removeprefix("backbone."): t for key, t in tensors.items() if key.startswith("backbone.")}
    head = {key.removeprefix("box_head."): t for key, t in tensors.items() if key.startswith("box_head.")}
    result = copy_to_branches(backbone, teachers=teachers)
    for key, tensor in head.items():
        result[f"box_head.{key}"] = torch.cat([tensor, tensor], dim=1) if key in _WIDE and tensor.dim() == 4 else tensor
        if teachers:
            result |= {f"box_head_v.{key}": tensor, f"box_head_i.{key}": tensor}
    return result


def init_ipl(tensors: Tensors) -> dict[str, Tensor]:
    """Plain OSTrack weights -> a new `ipl-base` before stage 1 (docs/specs/ipl.md, section 5.1).

    The head's first convolutions are repeated along their input channels without halving. Specific layers, tokens and
    prompters are not among them.
    """
    wide = {f"box_head.{key}" for key in _WIDE}
    repeated = {
        key: torch.cat([tensor, tensor], dim=1) if key in wide and tensor.dim() == 4 else tensor
        for key, tensor in tensors.items()
        if not key.endswith(COUNT)
    }
    return with_copies(repeated, "backbone.patch_embed")


def tiny_to_ipl(tensors: Tensors) -> dict[str, Tensor]:
    """Weights of `ckd-tiny` (or of its branch alone) -> a new `ipl-tiny`, likewise; the head fits as it is."""
    renamed = {
        key.replace("branch.", "backbone.", 1) if key.startswith("branch.") else key: tensor
        for key, tensor in tensors.items()
        if not key.endswith(COUNT)
    }
    return with_copies(renamed, "backbone.stem.patch_embed")


def with_copies(tensors: Tensors, source: str) -> dict[str, Tensor]:
    """IPL weights with patch embeddings for its stand-in streams: their own, else copies of `source`."""
    patches = {key.removeprefix(source): t for key, t in tensors.items() if key.startswith(f"{source}.")}
    copies = {f"backbone.patch_embed_{way}{key}": t for way in ("rgb2tir", "tir2rgb") for key, t in patches.items()}
    return {**copies, **tensors}


def hiera_to_tiny(tensors: Tensors, *, teachers: bool) -> dict[str, Tensor]:
    """Hiera-Tiny stages 1 to 3 -> the branches of `ckd-tiny`: stem (blocks 0-3) and joint blocks (4-9)."""
    prefixes = ("branch.", "teacher_rgb.", "teacher_tir.") if teachers else ("branch.",)
    return {hiera_key(key, prefix): tensor for prefix in prefixes for key, tensor in tensors.items()}
