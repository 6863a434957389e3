"""Drawing: boxes, states and captions on frames, two modalities side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.frames import FramePair, Image, State, TrackResult

STATE_COLOURS: dict[State, tuple[int, int, int]] = {
    "tracking": (64, 220, 96),
    "uncertain": (255, 176, 32),
    "lost": (255, 64, 64),
}
MIN_HEIGHT = 480
"""Smaller frames are enlarged by a whole factor, so that captions can be read."""
MAX_WIDTH = 3840
"""Wider pictures are scaled down; beyond this players and H.264 levels give up."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _BLACK, _PANEL = (255, 255, 255), (0, 0, 0), (28, 28, 32)


def zoom_factor(size: tuple[int, int], panels: int = 1) -> float:
    """By how much a frame of `size` (width, height) is enlarged (whole factors) or reduced, `panels` side by side."""
    width, height = size
    factor = float(max(1, min(-(-MIN_HEIGHT // height), MAX_WIDTH // (panels * width))))
    return min(factor, MAX_WIDTH / (panels * width))


def draw_pair(pair: FramePair, results: Sequence[TrackResult], *, size: tuple[int, int], sides: Sequence[str]) -> Image:
    """One picture of a frame: a panel for each of `sides` ("rgb", "aux"), with what was tracked drawn on it.

    `size` is (width, height) of the frames; a modality that is missing becomes a dark panel that says so, and why
    where the pair's notes ("aux: frozen, ...") do. Both dimensions of the (H, W, 3) uint8 RGB picture are even.
    """
    images = {"rgb": pair.rgb, "aux": pair.aux}
    notes = {side: [note for note in pair.notes if note.startswith((f"{side}: ", f"{side} "))] for side in sides}
    why = {side: "; ".join(note.partition(": ")[2] for note in said) for side, said in notes.items()}
    return draw_row({side: images[side] for side in sides}, results, size=size, index=pair.index, why=why)


def draw_row(
    images: Mapping[str, Image | None],
    results: Sequence[TrackResult],
    *,
    size: tuple[int, int],
    index: int,
    why: Mapping[str, str] | None = None,
) -> Image:
    """The pictures of frame `index` next to each other under their names, `why` one is missing; see `draw_pair`."""
    factor, notes = zoom_factor(size, len(images)), why or {}
    panels = [
        draw_panel(image, results, size=size, factor=factor, title=name, note=notes.get(name, ""))
        for name, image in images.items()
    ]
    picture = np.concatenate(panels, axis=1)
    _label(picture, f"frame {index}", (0, picture.shape[0]), _unit(panels[0]), background=_BLACK, above=True)
    return even_sided(picture)


def even_sided(picture: Image) -> Image:
    """The picture with its last row and column repeated where its sides are odd: video needs even ones."""
    height, width = picture.shape[:2]
    return np.asarray(np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def draw_panel(
    image: Image | None,
    results: Sequence[TrackResult],
    *,
    size: tuple[int, int],
    factor: float,
    title: str,
    note: str = "",
) -> Image:
    """One modality, scaled by `factor`, with the boxes of all objects; None becomes a dark panel saying "no signal" and
    `note`."""
    width, height = (max(2, round(side * factor)) for side in size)
    if image is None:
        panel = np.full((height, width, 3), _PANEL, np.uint8)
    else:
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        panel = np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)
    unit = _unit(panel)
    for number, result in enumerate(results, start=1):
        name = f"{number} " if len(results) > 1 else ""
        _draw_box(panel, result, f"{name}{result.state} {result.score:.2f}", factor, unit)
    if image is None:
        _centred(panel, "no signal", unit, scale=0.9)
        _centred(panel, note, unit, scale=0.5, below=1.4)
    _label(panel, title, (0, 0), unit, background=_BLACK)
    return panel


def _unit(panel: NDArray[Any]) -> float:
    """Thickness of a line in pixels: everything else is a multiple of it."""
    return max(1.0, panel.shape[0] / 360)


def _draw_box(panel: Image, result: TrackResult, caption: str, factor: float, unit: float) -> None:
    if not np.isfinite(result.box).all():
        return
    colour = STATE_COLOURS[result.state]
    x, y, w, h = result.box * factor
    limit = 4 * max(panel.shape)
    left, top, right, bottom = (round(float(np.clip(v, -limit, limit))) for v in (x, y, x + w, y + h))
    line = max(1, round(unit * 1.5))
    # a dark rim keeps the box visible on bright and on busy ground; outside the object, so that it hides none of it
    cv2.rectangle(panel, (left - line, top - line), (right + line, bottom + line), _BLACK, line + 2, cv2.LINE_AA)
    cv2.rectangle(panel, (left - line, top - line), (right + line, bottom + line), colour, line, cv2.LINE_AA)
    room_above = top > 20 * unit  # else the caption would cover the object
    _label(panel, caption, (left - line, top if room_above else bottom), unit, background=colour, above=room_above)


def _label(
    panel: Image,
    text: str,
    at: tuple[int, int],
    unit: float,
    *,
    background: tuple[int, int, int],
    above: bool = False,
) -> None:
    """Text on a filled ground with its top left (or bottom left, `above`) corner at `at`, moved to stay inside."""
    scale, thick = 0.45 * unit, max(1, round(unit))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thick)
    pad = max(2, round(2 * unit))
    full_w, full_h = width + 2 * pad, height + baseline + 2 * pad
    left = int(np.clip(at[0], 0, max(0, panel.shape[1] - full_w)))
    top = int(np.clip(at[1] - full_h if above else at[1], 0, max(0, panel.shape[0] - full_h)))
    cv2.rectangle(panel, (left, top), (left + full_w, top + full_h), background, -1)
    ink = _BLACK if sum(background) > 300 else _WHITE
    cv2.putText(panel, text, (left + pad, top + pad + height), _FONT, scale, ink, thick, cv2.LINE_AA)


def _centred(panel: Image, text: str, unit: float, *, scale: float, below: float = 0.0) -> None:
    """Grey text in the middle, or `below` it by so many lines of the usual size; made smaller where it is too long."""
    scale, thick = scale * unit, max(1, round(1.5 * unit))
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, thick)
    if width > 0.9 * panel.shape[1]:
        scale, thick = scale * 0.9 * panel.shape[1] / width, 1
        (width, height), _ = cv2.getTextSize(text, _FONT, scale, thick)
    at = ((panel.shape[1] - width) // 2, (panel.shape[0] + height) // 2 + round(below * 22 * unit))
    cv2.putText(panel, text, at, _FONT, scale, (150, 150, 160), thick, cv2.LINE_AA)
