"""Single pictures: first frames to read a box off, and a strip of a track."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from duotrack.errors import InputError
from duotrack.files import atomic_path
from duotrack.frames import FramePair, Image, TrackResult
from duotrack.video.overlay import draw_pair, zoom_factor

_GRID, _STRONG, _INK, _PAPER = (200, 200, 200), (255, 230, 0), (20, 20, 20), (245, 245, 245)
_STEPS = (5, 10, 20, 25, 50, 100, 200, 250, 500)


def first_frame_images(pair: FramePair, folder: str | Path) -> list[Path]:
    """Write the images as `first_frame_rgb.png` and `first_frame_aux.png` with a grid labelled in pixel coordinates.

    Small frames are enlarged by a whole factor; the labels keep to the pixels of the source. Returns what was written.

    Raises:
        InputError: the frame has no image, or the folder cannot be written.
    """
    images = {name: image for name, image in (("rgb", pair.rgb), ("aux", pair.aux)) if image is not None}
    if not images:
        raise InputError(f"frame {pair.index} has no image that can be read; begin at another one (--start)")
    written = []
    for name, image in images.items():
        written.append(Path(folder) / f"first_frame_{name}.png")
        write_png(written[-1], draw_grid(image))
    return written


def draw_grid(image: Image) -> Image:
    """The image, enlarged where it is small, on a sheet with a coordinate at every grid line on all four sides."""
    height, width = image.shape[:2]
    factor = max(1, round(zoom_factor((width, height))), -(-900 // max(width, height)))
    panel = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    scale = max(0.4, panel.shape[0] / 1600)
    thick = max(1, round(scale * 1.5))
    # lines at least as far apart as their labels are wide
    (label, text_height), _ = cv2.getTextSize("0000", cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    step = next((s for s in _STEPS if s * factor >= 1.3 * label), _STEPS[-1])
    shaded = panel.copy()
    for axis, length in ((1, width), (0, height)):
        for at in range(0, length, step):
            colour, to = (_STRONG if at % (5 * step) == 0 else _GRID), at * factor
            start, end = ((to, 0), (to, panel.shape[0])) if axis else ((0, to), (panel.shape[1], to))
            cv2.line(shaded, start, end, colour, thick)
    panel = np.asarray(cv2.addWeighted(shaded, 0.55, panel, 0.45, 0), np.uint8)
    margin = label + 12
    sheet = np.full((panel.shape[0] + 2 * margin, panel.shape[1] + 2 * margin, 3), _PAPER, np.uint8)
    sheet[margin:-margin, margin:-margin] = panel
    for at in range(0, width, step):
        for y in (margin - 6, sheet.shape[0] - margin + text_height + 6):
            _text(sheet, str(at), (margin + at * factor, y), scale, thick, centre=True)
    for at in range(0, height, step):
        y = margin + at * factor + text_height // 2
        for x in (4, sheet.shape[1] - margin + 6):
            _text(sheet, str(at), (x, y), scale, thick)
    caption = f"{width} x {height} pixels, a line every {step}; box: left, top, width, height"
    _text(sheet, caption, (margin, sheet.shape[0] - 8), scale, thick)
    return sheet


def _text(sheet: Image, text: str, at: tuple[int, int], scale: float, thick: int, *, centre: bool = False) -> None:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    x = at[0] - width // 2 if centre else at[0]
    cv2.putText(sheet, text, (x, at[1]), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, thick, cv2.LINE_AA)


def draw_strip(
    pairs: Sequence[FramePair], results: Sequence[Sequence[TrackResult]], path: str | Path, *, count: int = 6
) -> Path:
    """Write a PNG strip of up to `count` evenly spaced frames, left to right, each with its boxes.

    `results[i]` holds one result for each object in `pairs[i]`. Modalities that no frame has are left out.

    Raises:
        InputError: no frame has an image, or the file cannot be written.
        ValueError: not as many results as frames.
    """
    if len(pairs) != len(results):
        raise ValueError(f"{len(pairs)} frames but {len(results)} results; pass one list of results for each frame")
    sides = tuple(side for side in ("rgb", "aux") if any(side in pair.available for pair in pairs))
    image = next((image for pair in pairs for image in (pair.rgb, pair.aux) if image is not None), None)
    if image is None:
        raise InputError("no frame to draw has an image")
    size = (image.shape[1], image.shape[0])
    chosen = np.unique(np.linspace(0, len(pairs) - 1, count).round().astype(int))
    cells = []
    for i in chosen:
        # one modality above the other, so that the strip stays readable from left to right
        columns = [draw_pair(pairs[i], results[i], size=size, sides=(side,)) for side in sides]
        cells.append(np.pad(np.concatenate(columns), ((2, 2), (2, 2), (0, 0)), constant_values=255))
    write_png(Path(path), np.concatenate(cells, axis=1))
    return Path(path)


def write_png(path: Path, image: Image) -> None:
    """Write an (H, W, 3) uint8 RGB image as PNG, whole or not at all; `OSError` where the disk is full."""
    data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
