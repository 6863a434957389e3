"""From score, size and offset maps to a box in the frame (docs/specs/ckd.md, sections 1.6 and 5)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duotrack.boxes import cxcywh_to_xywh
from duotrack.models.outputs import HeadMaps


@dataclass(frozen=True, eq=False)
class Peak:
    """Where the windowed score is highest.

    `box` (4,) float64: centre and size over the side of the search crop; `score`: the score map's own value in that
    cell, before the window; `windowed`: the same times the window; `highest`: the map's largest value in any cell. Each
    may be NaN when the network's maps are.
    `fused`: (1, 3, S, S), what the network made of the search images, where somebody wants to cut templates from it.
    """

    box: NDArray[np.float64]
    score: float
    windowed: float
    highest: float
    fused: Tensor | None = None


def hann_window(height: int, width: int) -> Tensor:
    """(height, width) float32: outer product of 0.5 (1 - cos(2 pi k / (n + 1))), k = 1..n: no zeros at the border."""
    rows, columns = (torch.hann_window(n + 2, periodic=False, dtype=torch.float64)[1:-1] for n in (height, width))
    return torch.outer(rows, columns).float()


def decode_maps(response: Tensor, size_map: Tensor, offset_map: Tensor) -> Tensor:
    """Boxes at the first maximum of each response, on a grid of any size.

    Args:
        response: (B, 1, h, w), the score map, in tracking times the window.
        size_map, offset_map: (B, 2, h, w), as in `HeadMaps`.

    Returns:
        (B, 4) centre x, centre y, width, height over the side of the search crop. No half-cell shift.
    """
    width = response.shape[-1]
    index = response.flatten(1).argmax(1)
    return _boxes_at(index, size_map, offset_map, height=response.shape[-2], width=width)


def find_peaks(maps: HeadMaps, window: Tensor) -> list[Peak]:
    """The best box of each sample, the score map weighted by `window` (h, w) on the maps' device."""
    if maps.score_map.device.type == "cpu":
        return peaks_by_numpy(maps, window)
    return peaks_by_torch(maps, window)


def peaks_by_numpy(maps: HeadMaps, window: Tensor) -> list[Peak]:
    """`find_peaks` of maps in memory: a quarter of the time that torch takes over numbers so few, bit by bit equal."""
    score_map, size_map, offset_map = (
        each.detach().float().numpy().reshape(*each.shape[:2], -1)
        for each in (maps.score_map, maps.size_map, maps.offset_map)
    )
    height, width = window.shape
    responses = score_map[:, 0] * window.numpy().reshape(-1)
    peaks = []
    for sample, index in enumerate(responses.argmax(axis=1).tolist()):
        row, column = divmod(index, width)
        (right, down), size = offset_map[sample, :, index], size_map[sample, :, index]
        centre = (np.float32(column) + right) / np.float32(width), (np.float32(row) + down) / np.float32(height)
        whole = score_map[sample, 0]
        box = np.array([*centre, *size], np.float64)
        peaks.append(Peak(box, float(whole[index]), float(responses[sample, index]), float(whole.max())))
    return peaks


def peaks_by_torch(maps: HeadMaps, window: Tensor) -> list[Peak]:
    """`find_peaks` of maps on a device, which is waited for once."""
    score_map = maps.score_map.float()
    response = (score_map * window).flatten(1)
    index = response.argmax(1)
    boxes = _boxes_at(
        index, maps.size_map.float(), maps.offset_map.float(), height=window.shape[0], width=window.shape[1]
    )
    scores = score_map.flatten(1)
    parts = [boxes, *(each.gather(1, index[:, None]) for each in (scores, response)), scores.amax(1, keepdim=True)]
    values = torch.cat(parts, dim=1).double().cpu().numpy()  # one copy from the device a frame
    return [Peak(row[:4], float(row[4]), float(row[5]), float(row[6])) for row in values]


def _boxes_at(index: Tensor, size_map: Tensor, offset_map: Tensor, *, height: int, width: int) -> Tensor:
    at = index[:, None, None].expand(-1, 2, 1)
    offset, size = (m.flatten(2).gather(2, at).squeeze(2) for m in (offset_map, size_map))
    centre_x = (index % width + offset[:, 0]) / width
    centre_y = (torch.div(index, width, rounding_mode="floor") + offset[:, 1]) / height
    return torch.stack([centre_x, centre_y, size[:, 0], size[:, 1]], dim=1)


def map_back(
    peak: NDArray[np.float64], previous: NDArray[np.float64], *, size: int, resize_factor: float
) -> NDArray[np.float64]:
    """A decoded box in frame pixels, not clipped (docs/specs/ckd.md, section 5, steps 3 and 4).

    Args:
        peak: (4,) float64 centre and size over the crop's side.
        previous: (4,) float64 `xywh` in frame pixels that the search crop was cut around.
        size: side of the search crop.
        resize_factor: `Crop.resize_factor` of the search crop.
    """
    across, down, width, height = (peak * (size / resize_factor)).tolist()
    x, y, w, h = previous.tolist()
    half = 0.5 * size / resize_factor
    return cxcywh_to_xywh(np.array([x + w / 2 + across - half, y + h / 2 + down - half, width, height]))
