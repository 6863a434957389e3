"""What a tracking network hands out."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class HeadMaps:
    """The three maps of a centre head on an h x w grid.

    `score_map` (B, 1, h, w) in (0, 1); `size_map` (B, 2, h, w): width and height as fractions of the search image;
    `offset_map` (B, 2, h, w): x and y within a cell, in cells.
    """

    score_map: Tensor
    size_map: Tensor
    offset_map: Tensor


@dataclass
class NetOutput(HeadMaps):
    """The fused head's maps and, for those who want to look inside, what led to them.

    `features` (B, template + search tokens, channels): the fused backbone output, template first, search tokens in
    raster order with zeros where eliminated. `kept`: per modality ("rgb", "aux"), the (B, k) original search positions
    that live on after each elimination stage, ascending. While the training form trains, `teachers` holds each teacher
    head's maps ("rgb", "aux") and `blocks` every block's output per stream ("rgb", "aux", "teacher_rgb",
    "teacher_aux"), each a list of (B, tokens, channels). `fused` (B, 3, S, S): the search image that a network which
    fuses pixels looked at, normalised.
    """

    features: Tensor | None = None
    kept: dict[str, list[Tensor]] = field(default_factory=dict)
    teachers: dict[str, HeadMaps] = field(default_factory=dict)
    blocks: dict[str, list[Tensor]] = field(default_factory=dict)
    fused: Tensor | None = None
