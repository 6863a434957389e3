"""Result files: boxes, one JSON object a frame, and the overlay video; all of them appear together or not at all."""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from duotrack.errors import InputError
from duotrack.files import atomic_path
from duotrack.frames import FramePair, TrackResult
from duotrack.video.encode import Encoder, open_encoder
from duotrack.video.overlay import draw_pair
from duotrack.video.pair import PairedSource

DEFAULT_FPS = 25.0
"""Frame rate of the overlay where the source has none."""


class BoxesWriter:
    """`x,y,w,h` of one object, a line a frame, four decimals."""

    def __init__(self, path: Path, *, number: int = 1) -> None:
        self._file = path.open("w", encoding="ascii", newline="\n")
        self._number = number

    def write(self, pair: FramePair, results: Sequence[TrackResult], seconds: float | None) -> None:
        """Add the box of this writer's object."""
        box = results[self._number - 1].box
        self._file.write(",".join(f"{float(value):.4f}" for value in box) + "\n")

    def finish(self) -> None:
        """Bring everything to the disk, or raise `OSError`."""
        _flush(self._file)

    def abandon(self) -> None:
        """Close without caring for what was written."""
        _drop(self._file)


class JsonlWriter:
    """One JSON object a line, one line for each object in each frame.

    Keys: frame; object (from 1, where there are several); box [x, y, w, h]; score; state; available (modalities that
    the frame had); time (seconds from the start of the source, null where unknown); seconds (spent on the frame); notes
    (only where there are any).
    """

    def __init__(self, path: Path, *, objects: int = 1) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._objects = objects

    def write(self, pair: FramePair, results: Sequence[TrackResult], seconds: float | None) -> None:
        """Add a line for each object."""
        for number, result in enumerate(results, start=1):
            line: dict[str, Any] = {"frame": pair.index}
            if self._objects > 1:
                line["object"] = number
            line |= {
                "box": [round(float(value), 4) for value in result.box],
                "score": round(float(result.score), 6),
                "state": result.state,
                "available": list(result.available),
                "time": None if pair.time is None else round(pair.time, 6),
                "seconds": None if seconds is None else round(seconds, 6),
            }
            if pair.notes:
                line["notes"] = list(pair.notes)
            self._file.write(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Bring everything to the disk, or raise `OSError`."""
        _flush(self._file)

    def abandon(self) -> None:
        """Close without caring for what was written."""
        _drop(self._file)


class OverlayWriter:
    """The overlay video: `sides` next to each other, as `overlay.draw_pair` draws them."""

    def __init__(self, path: Path, *, fps: float | None, sides: Sequence[str], size: tuple[int, int]) -> None:
        self._path, self._fps, self._sides, self._size = path, fps or DEFAULT_FPS, sides, size
        self._encoder: Encoder | None = None

    def write(self, pair: FramePair, results: Sequence[TrackResult], seconds: float | None) -> None:
        """Draw and encode one frame."""
        picture = draw_pair(pair, results, size=self._size, sides=self._sides)
        if self._encoder is None:
            size = (picture.shape[1], picture.shape[0])
            self._encoder = open_encoder(self._path, size=size, fps=self._fps)
        self._encoder.write(picture)

    def finish(self) -> None:
        """Complete the file, or raise `OSError`."""
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            try:
                encoder.finish()
            finally:
                encoder.abandon()

    def abandon(self) -> None:
        """Let go of the file."""
        if self._encoder is not None:
            self._encoder.abandon()


def _flush(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _drop(file: IO[str]) -> None:
    try:
        file.close()
    except OSError:  # flushing the rest fails again on a full disk; the first failure is on its way to the caller
        return


class Sinks:
    """The result files of one run, in one folder.

    `paths` says what will be there: "boxes" (several objects: "boxes_1", "boxes_2", ...), "track" and "overlay".
    Everything is written to temporary names and renamed when the block ends well; on any error nothing is left.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        size: tuple[int, int],
        sides: Sequence[str] = ("rgb", "aux"),
        fps: float | None = None,
        objects: int = 1,
        overlay: bool = True,
        overwrite: bool = False,
    ) -> None:
        """Prepare, but write nothing yet; see `open_sinks`."""
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise InputError(f"{self._folder} is a file; name a folder for the results")
        self._old = results_in(self._folder)
        if self._old and not overwrite:
            held = ", ".join(path.name for path in self._old)
            remedy = "choose another folder, or allow overwriting (--overwrite)"
            raise InputError(f"{self._folder} already holds results ({held}); {remedy}")
        self.objects = objects
        numbered = {f"boxes_{n}": f"boxes_{n}.txt" for n in range(1, objects + 1)}
        names = (
            ({"boxes": "boxes.txt"} if objects == 1 else numbered)
            | {"track": "track.jsonl"}
            | ({"overlay": "overlay.mp4"} if overlay else {})
        )
        self.paths = {key: self._folder / name for key, name in names.items()}
        self._video = {"fps": fps, "sides": tuple(sides), "size": size}
        self._renames = ExitStack()
        self._writers: list[BoxesWriter | JsonlWriter | OverlayWriter] = []
        self._made: list[Path] = []
        self._frames = 0

    def __enter__(self) -> Self:
        self._made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        with ExitStack() as guard:
            guard.push(self._undo)
            for key, path in self.paths.items():
                self._writers.append(self._writer(key, self._renames.enter_context(atomic_path(path))))
            guard.pop_all()
        return self

    def _writer(self, key: str, path: Path) -> BoxesWriter | JsonlWriter | OverlayWriter:
        if key == "track":
            return JsonlWriter(path, objects=self.objects)
        if key == "overlay":
            return OverlayWriter(path, **self._video)  # type: ignore[arg-type]
        return BoxesWriter(path, number=int(key.partition("_")[2] or 1))

    def write(self, pair: FramePair, results: Sequence[TrackResult], seconds: float | None = None) -> None:
        """Add one frame: a result for each object, in the same order every time, and the seconds spent on it.

        Raises:
            ValueError: not one result for each object.
            OSError: the disk is full or the folder cannot be written.
        """
        if len(results) != self.objects:
            raise ValueError(f"{len(results)} results for {self.objects} objects; pass one for each")
        for writer in self._writers:
            writer.write(pair, results, seconds)
        self._frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._undo(kind, error, trace)
            return
        with ExitStack() as guard:
            guard.push(self._undo)
            if not self._frames:
                raise InputError(f"nothing to write to {self._folder}: no frame came; check the source")
            for writer in self._writers:  # all of them must be whole before the first one gets its name
                writer.finish()
            guard.pop_all()
        self._renames.close()
        for path in set(self._old) - set(self.paths.values()):
            path.unlink()

    def _undo(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for writer in self._writers:
            writer.abandon()
        self._renames.__exit__(kind, error, trace)
        for folder in self._made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def open_sinks(
    folder: str | Path, source: PairedSource, *, objects: int = 1, overlay: bool = True, overwrite: bool = False
) -> Sinks:
    """The result files for what is tracked in `source`; use it as a context manager and `write` each frame.

    Args:
        folder: where to; made where it is missing.
        source: gives the frame size, the frame rate and which modalities there are.
        objects: how many objects are tracked.
        overlay: also write the overlay video.
        overwrite: replace the results that `folder` holds; without it they are an error.

    Raises:
        InputError: `folder` holds results or cannot be written.
    """
    return Sinks(
        folder,
        size=source.size,
        sides=source.sides,
        fps=source.fps,
        objects=objects,
        overlay=overlay,
        overwrite=overwrite,
    )


def results_in(folder: Path) -> list[Path]:
    """The result files that a folder holds, in name order."""
    names = ("boxes.txt", "boxes_*.txt", "track.jsonl", "overlay.mp4")
    return sorted({path for name in names for path in folder.glob(name)}) if folder.is_dir() else []
