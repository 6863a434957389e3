"""Small RGB-depth and RGB-event data on disk: `from kinds import write_depth, write_event`."""

from pathlib import Path

import cv2
import numpy as np

from sequences import HEIGHT, WIDTH, box, scene

ABSENT = "nan,nan,nan,nan"


def depth_map(frame: int) -> np.ndarray:
    """(H, W) uint16 millimetres: a wall 4 m away with holes, and the target 1.5 m away."""
    rng = np.random.default_rng([frame, 9])
    depth = rng.integers(3900, 4100, (HEIGHT, WIDTH)).astype(np.uint16)
    depth[rng.random((HEIGHT, WIDTH)) < 0.05] = 0
    x, y, w, h = box(frame)
    depth[y : y + h, x : x + w] = 1500
    return depth


def event_picture(frame: int) -> np.ndarray:
    """(H, W, 3) uint8 BGR: white, with red and blue events at the edges of the target."""
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    x, y, w, h = box(frame)
    image[y : y + h, x : x + 2] = (0, 0, 255)
    image[y : y + h, x + w - 2 : x + w] = (255, 0, 0)
    return image


def write_depth(
    root: Path,
    name: str,
    frames: int = 5,
    *,
    boxes: str = "groundtruth.txt",
    absent: tuple[int, ...] = (),
    depths: dict[int, np.ndarray | None] | None = None,
) -> Path:
    """A sequence as DepthTrack and RGBD1K keep them, numbered from 1; `depths` replaces frames, None leaves one out."""
    folder = root / name
    (folder / "color").mkdir(parents=True)
    (folder / "depth").mkdir()
    for i in range(frames):
        save(folder / "color" / f"{i + 1:08d}.jpg", scene(i, "visible")[:, :, ::-1])
        depth = (depths or {}).get(i, depth_map(i))
        if depth is not None:
            save(folder / "depth" / f"{i + 1:08d}.png", depth)
    (folder / boxes).write_text(rows(frames, absent))
    return folder


def write_event(root: Path, name: str, frames: int = 5, *, absent: tuple[int, ...] = (), left_out: int = 0) -> Path:
    """A sequence as VisEvent keeps them; the last `left_out` event frames are not there."""
    folder = root / name
    (folder / "vis_imgs").mkdir(parents=True)
    (folder / "event_imgs").mkdir()
    for i in range(frames):
        save(folder / "vis_imgs" / f"frame{i:04d}.bmp", scene(i, "visible")[:, :, ::-1])
        if i < frames - left_out:
            save(folder / "event_imgs" / f"frame{i:04d}.bmp", event_picture(i))
    (folder / "groundtruth.txt").write_text(rows(frames))
    (folder / "absent_label.txt").write_text("".join(f"{int(i not in absent)}\n" for i in range(frames)))
    return folder


def rows(frames: int, absent: tuple[int, ...] = ()) -> str:
    """Box rows; nan where the target is absent."""
    return "".join((ABSENT if i in absent else ",".join(map(str, box(i)))) + "\n" for i in range(frames))


def save(path: Path, image: np.ndarray) -> None:
    """Write an image as OpenCV takes it (BGR or grey)."""
    assert cv2.imwrite(str(path), np.ascontiguousarray(image))
