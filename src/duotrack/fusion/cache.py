"""Fused frames on disk, for experts that are too slow to run while training (docs/specs/tpf.md, section 7.1).

A folder holds the frames of one expert in one version: `cache.json`, and `DATASET/SEQUENCE/000000.png` for each frame.
The layout is ours.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from duotrack.errors import InputError
from duotrack.files import atomic_path, write_text
from duotrack.frames import Image
from duotrack.fusion.expert import MissingExpertError
from duotrack.images import read_raw

FACTS = "cache.json"
_FORMAT = 1
_MAX_FACTS = 10_000


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    expert: str = Field(min_length=1, max_length=200)
    version: str = Field(max_length=200)


@dataclass(frozen=True)
class FrameCache:
    """The fused frames of one expert; `name` and `version` are the expert's."""

    folder: Path
    name: str
    version: str

    def path(self, dataset: str, sequence: str, frame: int) -> Path:
        """Where a frame lies.

        Raises:
            InputError: a name that would lead elsewhere.
        """
        parts = [dataset, *sequence.split("/")]
        if frame < 0 or any(part in ("", ".", "..") or part.startswith(".") or _strange(part) for part in parts):
            raise InputError(
                f"{dataset!r}, {sequence!r}, frame {frame} cannot name a cached frame; use names of letters and digits"
            )
        return self.folder.joinpath(*parts, f"{frame:06d}.png")

    def read(self, dataset: str, sequence: str, frame: int, *, size: tuple[int, int]) -> Image:
        """A fused frame, (H, W, 3) uint8 RGB; cut it exactly as the frames that it was made of.

        Args:
            size: (width, height) of those frames.

        Raises:
            InputError: it is not there, damaged, or of another size.
        """
        path = self.path(dataset, sequence, frame)
        remedy = f"fill the cache again (duotrack fuse --cache-as {dataset}/{sequence})"
        if not path.is_file():
            raise InputError(f"the cache of expert {self.name} has no frame {path}; {remedy}")
        raw = read_raw(path)
        if raw is None or raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3:
            raise InputError(f"{path} is no fused frame of expert {self.name} (8-bit colour PNG); {remedy}")
        if (raw.shape[1], raw.shape[0]) != size:
            raise InputError(
                f"{path} is {raw.shape[1]}x{raw.shape[0]}, the frame it was made of {size[0]}x{size[1]}; {remedy}"
            )
        return np.asarray(cv2.cvtColor(raw, cv2.COLOR_BGR2RGB), np.uint8)

    def write(self, dataset: str, sequence: str, frame: int, image: Image) -> None:
        """Keep a fused frame, (H, W, 3) uint8 RGB; the file appears whole."""
        data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        with atomic_path(self.path(dataset, sequence, frame)) as temporary:
            temporary.write_bytes(data.tobytes())


def open_cache(folder: str | Path) -> FrameCache:
    """The cache in `folder`.

    Raises:
        MissingExpertError: there is none. InputError: its `cache.json` cannot be used.
    """
    folder = Path(folder).expanduser()
    path = folder / FACTS
    if not path.is_file():
        raise MissingExpertError(f"no cache of fused frames at {path}; fill one with duotrack fuse --cache-as")
    try:
        if path.stat().st_size > _MAX_FACTS:
            raise ValueError("too long")
        facts = _Facts.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError) as error:
        raise InputError(f"{path} does not describe a cache of fused frames; fill it again") from error
    if facts.format != _FORMAT:
        raise InputError(f"{path} is of format {facts.format}, this version reads {_FORMAT}; fill it again")
    return FrameCache(folder, facts.expert, facts.version)


def make_cache(folder: str | Path, name: str, version: str) -> FrameCache:
    """The cache of an expert in `folder`, made where there is none.

    Raises:
        InputError: `folder` holds another expert's frames, another version's, or other files.
    """
    folder = Path(folder).expanduser()
    if (folder / FACTS).is_file():
        cache = open_cache(folder)
        if (cache.name, cache.version) != (name, version):
            raise InputError(
                f"{folder} holds frames of expert {cache.name}, version {cache.version}, not of {name}, version "
                f"{version}; choose another folder"
            )
        return cache
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} holds other files and no {FACTS}; choose an empty folder for the cache")
    write_text(folder / FACTS, json.dumps({"format": _FORMAT, "expert": name, "version": version}) + "\n")
    return FrameCache(folder, name, version)


def _strange(part: str) -> bool:
    return len(part) > 200 or not part.isprintable() or any(c in part for c in '/\\:*?"<>|')
