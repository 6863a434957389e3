"""Pictures that scenes are made of, held in memory at a bounded size: photographs, cut-outs, and drawn ones."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.settings import Scenes
from duotrack.datasets.simulation.silhouettes import drawn_sprite
from duotrack.datasets.simulation.sprites import MAX_SIDE, Kind, Sprite, make_pose
from duotrack.datasets.simulation.textures import drawn_background
from duotrack.errors import InputError
from duotrack.frames import Image
from duotrack.images import SUFFIXES, read_raw

log = logging.getLogger(__name__)

VERSION = 1
"""Raised when equal pictures, settings and seeds give other frames than before."""
KINDS: tuple[Kind, ...] = ("person", "vehicle", "animal", "flyer", "thing")
DRAWN_BACKGROUNDS, DRAWN_SKIES, DRAWN_SPRITES = 20, 12, 40
_WORDS: dict[Kind, tuple[str, ...]] = {
    "person": ("person", "people", "man", "woman", "girl", "boy", "walk", "pedestrian", "cyclist", "runner", "bicycle"),
    "vehicle": ("car", "cars", "truck", "bus", "van", "vehicle", "tractor", "boat", "ship", "train"),
    "flyer": ("drone", "bird", "birds", "plane", "aircraft", "helicopter", "airplane", "aeroplane", "kite"),
    "animal": ("animal", "dog", "cat", "horse", "cow", "sheep", "deer", "fox", "bear", "elephant", "animals"),
}


@dataclass(frozen=True, eq=False)
class Background:
    """A wide picture, and what its thermal appearance is made of at half its resolution.

    `rgb` (H, W, 3); `materials` (H/2, W/2) uint8 below 16: regions of like colour; `grey` and `detail` (H/2, W/2)
    uint8, the latter 128 plus what differs from its surroundings; `infrared` (H, W) uint8 a true thermal picture, or
    None.
    """

    rgb: Image
    materials: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    detail: NDArray[np.uint8]
    infrared: NDArray[np.uint8] | None = None

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        held = (self.rgb, self.materials, self.grey, self.detail, self.infrared)
        return sum(each.nbytes for each in held if each is not None)


@dataclass(frozen=True, eq=False)
class Pool:
    """All pictures at hand; `fingerprint` (hex) stands for their bytes and for the renderer's version."""

    photos: tuple[Background, ...]
    drawn: tuple[Background, ...]
    skies: tuple[Background, ...]
    cutouts: dict[Kind, tuple[Sprite, ...]]
    shapes: dict[Kind, tuple[Sprite, ...]]
    fingerprint: str

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures of each sort there are."""
        drawn = len(self.drawn) + len(self.skies)
        cutouts, shapes = (sum(map(len, each.values())) for each in (self.cutouts, self.shapes))
        return {"photos": len(self.photos), "cutouts": cutouts, "drawn_backgrounds": drawn, "drawn_objects": shapes}


def canvas_for(settings: Scenes) -> int:
    """The longest side that backgrounds are held with for frames of this size: room to pan and zoom in."""
    return min(max(round(2.4 * max(settings.width, settings.height)), 256), 1024)


def load_pool(
    photos: Iterable[Path] = (), cutouts: Iterable[Path] = (), *, canvas: int = 768, memory: int = 1024
) -> Pool:
    """Read folders of pictures, and draw what is drawn.

    In both kinds of folder a picture in `visible/` is joined with that of the same stem in the `infrared/` beside it,
    which then is its thermal appearance. A cut-out without transparency is a rectangle that fills its box.

    Args:
        photos: folders of backgrounds, searched through all their depths.
        cutouts: folders of objects.
        canvas: longest side that a background is held with, in pixels.
        memory: megabytes for the pictures of both; of more files an even choice is used, said in the log.

    Raises:
        InputError: a folder that is not there or holds no picture that can be read.
    """
    digest = hashlib.sha256(f"simulation {VERSION} {canvas}\n".encode())
    budget = memory * 1_000_000
    backs = _load(photos, lambda rgb, aux, _: _photo(rgb, aux, canvas), canvas, budget * 7 // 10, 3 * canvas**2, digest)
    cut = _load(cutouts, _cutout, MAX_SIDE, budget * 3 // 10, 2 * MAX_SIDE**2, digest)
    drawn, skies = _drawn(canvas)
    sorted_cut = {kind: tuple(each for each in cut if each.kind == kind) for kind in KINDS}
    return Pool(tuple(backs), drawn, skies, sorted_cut, _shapes(), digest.hexdigest())


@lru_cache(maxsize=2)
def _drawn(canvas: int) -> tuple[tuple[Background, ...], tuple[Background, ...]]:
    """Drawn backgrounds and skies, always the same."""
    rng = np.random.default_rng(20)
    rows = canvas * 3 // 4
    drawn = [_background(drawn_background(rng, rows, canvas, skyward=False)) for _ in range(DRAWN_BACKGROUNDS)]
    skies = [_background(drawn_background(rng, rows, canvas, skyward=True)) for _ in range(DRAWN_SKIES)]
    return tuple(drawn), tuple(skies)


@lru_cache(maxsize=1)
def _shapes() -> dict[Kind, tuple[Sprite, ...]]:
    """Drawn objects, always the same."""
    rng = np.random.default_rng(21)
    return {kind: tuple(drawn_sprite(rng, kind) for _ in range(DRAWN_SPRITES)) for kind in KINDS}


def _load(folders: Iterable[Path], make: Any, side: int, budget: int, each: int, digest: Any) -> list[Any]:
    """What `make` makes of the pictures in folders, as many as the budget of bytes allows."""
    made: list[Any] = []
    for folder in map(Path, folders):
        files = _files(folder)
        most = max(budget // each, 1)
        chosen = files if len(files) <= most else [files[i] for i in np.linspace(0, len(files) - 1, most).astype(int)]
        if len(chosen) < len(files):
            log.warning("%s: %d of %d pictures are used, as the memory for pictures allows", folder, most, len(files))
        broken = 0
        before = len(made)
        for visible, infrared in chosen:
            rgb = _read(visible, side)
            aux = None if infrared is None else _read(infrared, side)
            thing = None if rgb is None or (infrared is not None and aux is None) else make(rgb, aux, visible)
            if thing is None:
                broken += 1
                continue
            made.append(thing)
            digest.update(f"{visible.relative_to(folder).as_posix()}\0{visible.stat().st_size}\n".encode())
            for image in filter(lambda image: image is not None, (rgb, aux)):
                digest.update(np.asarray(image)[::7, ::7].tobytes())
        if len(made) == before:
            raise InputError(f"{folder}: none of its {len(files)} pictures can be used; give whole PNG or JPEG files")
        if broken:
            log.warning("%s: %d of %d pictures cannot be read and are left out", folder, broken, len(chosen))
        budget -= sum(item.bytes for item in made[before:])
    return made


def _files(folder: Path) -> list[tuple[Path, Path | None]]:
    """Pictures below a folder, each with its partner in `infrared/` where it lies in `visible/`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that holds pictures")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    partners = {(path.parent.parent, path.stem): path for path in paths if path.parent.name == "infrared"}
    sides = {path.parent.parent for path in paths if path.parent.name == "visible"}
    found = []
    for path in paths:
        if path.parent.name == "infrared" and path.parent.parent in sides:
            continue
        key = (path.parent.parent, path.stem)
        found.append((path, partners.get(key) if path.parent.name == "visible" else None))
    if not found:
        raise InputError(f"{folder}: holds no picture ({', '.join(SUFFIXES)})")
    return found


def _read(path: Path, side: int) -> NDArray[np.uint8] | None:
    """(H, W, 3 or 4) uint8 RGB(A) of bounded size; None where it cannot be read or is too large to be decoded."""
    try:
        raw = read_raw(path, side=side)
    except (InputError, OSError):
        return None
    if raw is None or raw.dtype not in (np.uint8, np.uint16) or raw.ndim not in (2, 3) or min(raw.shape[:2]) < 3:
        return None
    if raw.dtype == np.uint16:
        raw = cv2.convertScaleAbs(raw, alpha=255 / max(float(raw.max()), 1))
    raw = raw.reshape(*raw.shape[:2], -1)
    if raw.shape[2] == 2 or raw.shape[2] > 4:
        return None
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return np.asarray(cv2.cvtColor(raw, codes[raw.shape[2]]), np.uint8)


def _photo(rgb: NDArray[np.uint8], aux: NDArray[np.uint8] | None, canvas: int) -> Background | None:
    if min(rgb.shape[:2]) < 48:
        return None
    factor = canvas / max(rgb.shape[:2])
    size = (max(round(rgb.shape[1] * factor), 2), max(round(rgb.shape[0] * factor), 2))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    fitted = np.asarray(cv2.resize(np.ascontiguousarray(rgb[..., :3]), size, interpolation=way), np.uint8)
    if aux is None:
        return _background(fitted)
    warm = cv2.cvtColor(np.ascontiguousarray(aux[..., :3]), cv2.COLOR_RGB2GRAY)
    return _background(fitted, np.asarray(cv2.resize(warm, size, interpolation=way), np.uint8))


def _background(rgb: Image, infrared: NDArray[np.uint8] | None = None) -> Background:
    half = (max(rgb.shape[1] // 2, 1), max(rgb.shape[0] // 2, 1))
    small = cv2.resize(rgb, half, interpolation=cv2.INTER_AREA)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    detail = cv2.addWeighted(grey, 1, cv2.GaussianBlur(grey, (0, 0), 6), -1, 128)
    lab = cv2.cvtColor(cv2.GaussianBlur(small, (0, 0), 2.5), cv2.COLOR_RGB2LAB)
    steps = [np.quantile(lab[::4, ::4, 0], share) for share in (0.25, 0.5, 0.75)]
    materials = np.digitize(lab[..., 0], steps).astype(np.uint8)
    for channel, bit in ((1, 4), (2, 8)):
        materials += np.uint8(bit) * (lab[..., channel] > np.median(lab[::4, ::4, channel])).astype(np.uint8)
    return Background(rgb, materials, grey, np.asarray(detail, np.uint8), infrared)


def _cutout(rgb: NDArray[np.uint8], aux: NDArray[np.uint8] | None, path: Path) -> Sprite | None:
    height, width = rgb.shape[:2]
    alpha = rgb[..., 3] if rgb.shape[2] == 4 else np.full((height, width), 255, np.uint8)
    warm = None
    if aux is not None:
        warm = cv2.cvtColor(np.ascontiguousarray(aux[..., :3]), cv2.COLOR_RGB2GRAY)
        warm = cv2.resize(warm, (width, height), interpolation=cv2.INTER_AREA)
    pose = make_pose(np.ascontiguousarray(rgb[..., :3]), np.ascontiguousarray(alpha), infrared=warm)
    return None if pose is None else Sprite(_kind(path, height / width), (pose,))


def _kind(path: Path, tallness: float) -> Kind:
    words = "".join(letter if letter.isalpha() else " " for letter in "/".join(path.parts[-3:]).lower()).split()
    for kind, known in _WORDS.items():
        if any(word in known for word in words):
            return kind
    return "person" if tallness > 1.7 else "thing"
