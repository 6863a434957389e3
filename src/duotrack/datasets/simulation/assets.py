"""Pictures that scenes are made of, held in memory at a bounded size: photographs, cut-outs, and drawn ones."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.simulation.classes import kind_of
from duotrack.datasets.simulation.settings import Scenes
from duotrack.datasets.simulation.silhouettes import drawn_sprite
from duotrack.datasets.simulation.sprites import MAX_SIDE, Kind, Sprite, make_pose
from duotrack.datasets.simulation.textures import drawn_background
from duotrack.errors import InputError
from duotrack.frames import Image
from duotrack.images import SUFFIXES, declared_size, read_raw

log = logging.getLogger(__name__)

VERSION = 1
"""Raised when equal pictures, settings and seeds give other frames than before."""
KINDS: tuple[Kind, ...] = ("person", "vehicle", "animal", "flyer", "thing")
DRAWN_BACKGROUNDS, DRAWN_SKIES, DRAWN_SPRITES = 20, 12, 40
LEAST_SIDE, LEAST_FITTED = 48, 24
"""Pixels that the shorter side of a photograph has at least, as it comes and at the size at which it is held."""
_BYTES = {"photo": 3.75, "cutout": 4.0}
"""What a pixel takes of memory, at the size at which it is held; one more where there is a true thermal picture."""
_HEADER = 1 << 16
_UNREADABLE, _SMALL = "cannot be read", "too small or too thin"


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
    which then is its thermal appearance. A cut-out without transparency is a rectangle that fills its box; its class
    follows from its path (`classes.kind_of`).

    Args:
        photos: folders of backgrounds, searched through all their depths.
        cutouts: folders of objects.
        canvas: longest side that a background is held with, in pixels.
        memory: megabytes for the pictures of both, seven tenths of it for backgrounds at most; of more files an even
            choice is used, said in the log.

    Raises:
        InputError: a folder that is not there or holds no picture that can be read.
    """
    digest = hashlib.sha256(f"simulation {VERSION} {canvas}\n".encode())
    budget = memory * 1_000_000
    backs: list[Background] = _load(photos, "photo", canvas, budget * 7 // 10, digest)
    cut: list[Sprite] = _load(cutouts, "cutout", MAX_SIDE, budget - sum(back.bytes for back in backs), digest)
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


def _load(folders: Iterable[Path], what: Literal["photo", "cutout"], side: int, budget: int, digest: Any) -> list[Any]:
    """Pictures of folders, held with a longest side of `side`, as many as the budget of bytes allows."""
    made: list[Any] = []
    for folder in map(Path, folders):
        files = _files(folder)
        chosen = _within(files, what, side, budget)
        if len(chosen) < len(files):
            log.warning(
                "%s: %d of %d pictures are used, as the memory for pictures allows", folder, len(chosen), len(files)
            )
        left_out = Counter[str]()
        before = len(made)
        for visible, infrared in chosen:
            rgb = _read(visible, side)
            aux = None if infrared is None else _read(infrared, side)
            if isinstance(rgb, str) or isinstance(aux, str):
                left_out[rgb if isinstance(rgb, str) else str(aux)] += 1
                continue
            name = visible.relative_to(folder)
            thing = _photo(rgb, aux, side) if what == "photo" else _cutout(rgb, aux, kind_of(name, folder.name))
            if thing is None:
                left_out[_SMALL] += 1
                continue
            made.append(thing)
            kind = thing.kind if isinstance(thing, Sprite) else ""
            digest.update(f"{name.as_posix()}\0{visible.stat().st_size}{kind}\n".encode())
            for image in filter(lambda image: image is not None, (rgb, aux)):
                digest.update(np.asarray(image)[::7, ::7].tobytes())
        if len(made) == before:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
            least = f", {LEAST_SIDE} pixels a side or more" if what == "photo" else ""
            raise InputError(
                f"{folder}: none of its {len(files)} pictures can be used: {reasons}; "
                f"give whole PNG or JPEG files{least}"
            )
        for why, count in sorted(left_out.items()):
            why = f"are {why}" if why == _SMALL else why
            log.warning("%s: %d of %d pictures %s and are left out", folder, count, len(chosen), why)
        budget -= sum(item.bytes for item in made[before:])
    return made


def _within(
    files: list[tuple[Path, Path | None]], what: Literal["photo", "cutout"], side: int, budget: int
) -> list[tuple[Path, Path | None]]:
    """All files, or an even choice of them that takes no more than the budget of bytes; one at least."""
    pixel = [_BYTES[what] + (infrared is not None) for _, infrared in files]
    if side * side * sum(pixel) <= budget:
        return files
    costs = [each * _pixels(visible, what, side) for each, (visible, _) in zip(pixel, files, strict=True)]
    count = len(files)
    chosen = list(range(count))
    while (taken := sum(costs[i] for i in chosen)) > budget and count > 1:
        count = max(min(int(count * budget / taken), count - 1), 1)
        chosen = np.linspace(0, len(files) - 1, count).astype(int).tolist()
    return [files[i] for i in chosen]


def _pixels(path: Path, what: Literal["photo", "cutout"], side: int) -> int:
    """How many pixels are held of a picture, at most: a square's where its header says nothing."""
    try:
        with path.open("rb") as file:
            size = declared_size(file.read(_HEADER))
    except OSError:
        return side * side
    if size is None or min(size) < 1:
        return side * side
    if what == "photo":
        return side * max(round(side * min(size) / max(size)), 2)
    return min(size[0], side) * min(size[1], side)  # what is opaque may be cut to a squarer part


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


def _read(path: Path, side: int) -> NDArray[np.uint8] | str:
    """(H, W, 3 or 4) uint8 RGB(A) of bounded size; why not where there is none, as where it is too large to decode."""
    try:
        raw = read_raw(path, side=side)
    except (InputError, OSError):
        return _UNREADABLE
    if raw is None or raw.dtype not in (np.uint8, np.uint16) or raw.ndim not in (2, 3):
        return _UNREADABLE
    if min(raw.shape[:2]) < 3:
        return _SMALL
    if raw.dtype == np.uint16:
        raw = cv2.convertScaleAbs(raw, alpha=255 / max(float(raw.max()), 1))
    raw = raw.reshape(*raw.shape[:2], -1)
    if raw.shape[2] == 2 or raw.shape[2] > 4:
        return _UNREADABLE
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return np.asarray(cv2.cvtColor(raw, codes[raw.shape[2]]), np.uint8)


def _photo(rgb: NDArray[np.uint8], aux: NDArray[np.uint8] | None, canvas: int) -> Background | None:
    factor = canvas / max(rgb.shape[:2])
    if min(rgb.shape[:2]) < LEAST_SIDE or min(rgb.shape[:2]) * factor < LEAST_FITTED:
        return None
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


def _cutout(rgb: NDArray[np.uint8], aux: NDArray[np.uint8] | None, kind: Kind) -> Sprite | None:
    height, width = rgb.shape[:2]
    alpha = rgb[..., 3] if rgb.shape[2] == 4 else np.full((height, width), 255, np.uint8)
    warm = None
    if aux is not None:
        warm = cv2.cvtColor(np.ascontiguousarray(aux[..., :3]), cv2.COLOR_RGB2GRAY)
        warm = cv2.resize(warm, (width, height), interpolation=cv2.INTER_AREA)
    pose = make_pose(np.ascontiguousarray(rgb[..., :3]), np.ascontiguousarray(alpha), infrared=warm)
    return None if pose is None else Sprite(kind, (pose,))
