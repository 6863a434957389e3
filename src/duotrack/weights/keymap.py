"""Names of weights: what a checkpoint is by its keys, what a key is called elsewhere (docs/specs/ckd.md, section 6)."""

from collections import Counter
from collections.abc import Iterable, Mapping

from duotrack.errors import InputError

Shape = tuple[int, ...]

KINDS = ("duotrack", "ckd-training", "ckd-inference", "ipl", "patrack", "ostrack", "droptrack", "mae", "hiera")
TEACHERS = ("teacher_rgb.", "teacher_tir.", "box_head_v.", "box_head_i.")
"""Key prefixes that only the training form has."""
VIT = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
"""A bare ViT: everything else in an MAE file belongs to its decoder."""

FITS: Mapping[str, tuple[str, ...]] = {
    "ckd-base": ("duotrack", "ckd-training", "ckd-inference", "ostrack", "droptrack", "mae"),
    "ckd-tiny": ("duotrack", "hiera"),
    "patrack-base": ("duotrack", "patrack", "ostrack", "droptrack"),
    "ipl-base": ("duotrack", "ipl", "ostrack", "droptrack"),
    "ipl-tiny": ("duotrack", "hiera"),
    "tpf-base": ("duotrack", "ostrack", "droptrack"),
    "tpf-tiny": ("duotrack", "hiera"),
}
"""Model -> kinds of checkpoint that it can take."""
BEGINS_FROM: Mapping[str, tuple[str, ...]] = {"ipl-tiny": ("ckd-tiny",), "tpf-tiny": ("ckd-tiny",)}
"""Model -> models whose duotrack weights it can begin its training from."""
STARTING_POINTS = ("ostrack", "droptrack", "mae", "hiera")
"""Kinds that initialise a network but do not make it a trained RGB-X tracker."""
_ADAPTERS = ("adap_t", "adap2_t", "highfuseadapter1", "highfuseadapter2", "norml1", "norml2")
PATRACK_OWN = ("norm1.", "adapter_head.", *(f"backbone.blocks.{i}.{name}." for i in range(12) for name in _ADAPTERS))
"""Key prefixes of what PATrack adds to OSTrack (docs/specs/patrack.md, section 1.10)."""
_WRAPPERS = ("module.", "_orig_mod.", "net.", "model.")
_STEM_BLOCKS = 4


def plain_keys(keys: Iterable[str]) -> dict[str, str]:
    """Key without what wrappers (data parallel, compiled, Lightning) put before all keys -> key in the file.

    >>> plain_keys(["module.a.weight", "module.b.bias"])
    {'a.weight': 'module.a.weight', 'b.bias': 'module.b.bias'}
    """
    names = {key: key for key in keys}
    while prefix := next((w for w in _WRAPPERS if names and all(key.startswith(w) for key in names)), None):
        names = {key.removeprefix(prefix): original for key, original in names.items()}
    return names


def families(keys: Iterable[str]) -> dict[str, int]:
    """First component of the keys -> how many keys, in order of appearance."""
    return dict(Counter(key.split(".")[0] for key in keys))


def identify(shapes: Mapping[str, Shape], metadata: Mapping[str, str]) -> str:
    """Which of `KINDS` a checkpoint is, by its metadata or its keys.

    Raises:
        InputError: none of them; the message names the key families seen and the kinds known.
    """
    seen = families(shapes)
    if metadata.get("format") == "duotrack" or {"branch", "box_head"} <= seen.keys():
        return "duotrack"
    if {"rgb_branch", "tir_branch"} <= seen.keys():
        return "ckd-training" if any(key.startswith(TEACHERS) for key in shapes) else "ckd-inference"
    if {"backbone", "box_head", "adapter_head"} <= seen.keys():
        return "patrack"
    if {"backbone", "box_head"} <= seen.keys() and "backbone.mst_rgb_token" in shapes:
        return "duotrack" if "backbone.stem.pos_embed" in shapes else "ipl"
    if {"backbone", "box_head"} <= seen.keys() and "backbone.patch_embed.proj.weight" in shapes:
        grid = shapes.get("backbone.pos_embed_x", (1, 256, 768))
        temporal = any(key.startswith("backbone.temporal_pos_embed") for key in shapes)
        return "droptrack" if temporal or grid[1:2] == (576,) else "ostrack"
    if "pos_embed_window" in shapes and "blocks.0.mlp.layers.0.weight" in shapes:
        return "hiera"
    if {"pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"} <= shapes.keys():
        return "mae"
    raise InputError(f"no known kind of checkpoint: keys are {summary(seen)}; known kinds: {', '.join(KINDS)}")


def summary(seen: Mapping[str, int], limit: int = 6) -> str:
    """Key families with counts in a few words, safe to print."""
    if not seen:
        return "none"
    parts = [f"{shown(name)} ({count})" for name, count in list(seen.items())[:limit]]
    return ", ".join(parts) + (f" and {len(seen) - limit} more families" if len(seen) > limit else "")


def shown(text: object, limit: int = 100) -> str:
    """Text from a file, without control characters and not too long, so that it can be printed."""
    printable = ascii(text)[1:-1] if isinstance(text, str) else ascii(text)
    return printable if len(printable) <= limit else f"{printable[:limit]}..."


def hiera_key(key: str, prefix: str = "branch.") -> str:
    """Where a key of the Hiera-Tiny file lives in a branch of `ckd-tiny`.

    >>> hiera_key("blocks.0.mlp.layers.0.weight"), hiera_key("blocks.4.norm1.bias"), hiera_key("pos_embed")
    ('branch.stem.blocks.0.mlp.fc1.weight', 'branch.blocks.0.norm1.bias', 'branch.stem.pos_embed')
    """
    key = key.replace(".mlp.layers.0.", ".mlp.fc1.").replace(".mlp.layers.1.", ".mlp.fc2.")
    parts = key.split(".")
    if parts[0] == "blocks" and len(parts) > 1 and parts[1].isdecimal() and int(parts[1]) >= _STEM_BLOCKS:
        parts[1] = str(int(parts[1]) - _STEM_BLOCKS)
        return prefix + ".".join(parts)
    return f"{prefix}stem.{key}"
