"""Pictures of a run as one video or as a folder of images; they appear when it ends well, or not at all."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from duotrack.errors import InputError
from duotrack.files import atomic_path
from duotrack.frames import Image
from duotrack.video.encode import Encoder, open_encoder
from duotrack.video.overlay import even_sided
from duotrack.video.pictures import write_png
from duotrack.video.sinks import DEFAULT_FPS

PREFIX = "fused_"
_NOT_WRITTEN = (
    ".avi",
    ".mkv",
    ".mov",
    ".m4v",
    ".webm",
    ".wmv",
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
)


class PictureSink(Protocol):
    """Takes pictures, (H, W, 3) uint8 RGB of one size, by their frame number; a context manager."""

    path: Path

    def write(self, index: int, picture: Image) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_picture_sink(path: str | Path, *, fps: float | None, overwrite: bool = False) -> PictureSink:
    """A video where `path` ends in .mp4, else a folder for `fused_000000.png` and so on, named by frame.

    Args:
        path: where to; folders are made.
        fps: frame rate of the video; None for 25.
        overwrite: replace what an earlier run wrote there; without it that is an error. Other files stay.

    Raises:
        InputError: something is there already, or the name is that of another kind of file.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".mp4" and not path.is_dir():
        if path.exists() and not overwrite:
            raise InputError(f"{path} is there already; choose another name, or allow overwriting (--overwrite)")
        return _Video(path, fps or DEFAULT_FPS)
    if path.suffix.lower() in _NOT_WRITTEN and not path.is_dir():
        raise InputError(f"{path} cannot be written: give a name that ends in .mp4, or a folder for PNG images")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; name a folder for the images, or a file that ends in .mp4")
    if not overwrite and (held := _held(path)):
        raise InputError(
            f"{path} already holds {len(held)} fused images; choose another folder, or allow overwriting (--overwrite)"
        )
    return _Folder(path)


class _Video:
    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self._fps = fps
        self._encoder: Encoder | None = None
        self._rename = ExitStack()
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        self._made = _lacking(self.path.parent)
        self._temporary = self._rename.enter_context(atomic_path(self.path))
        return self

    def write(self, index: int, picture: Image) -> None:
        even = even_sided(picture)
        if self._encoder is None:
            self._encoder = open_encoder(self._temporary, size=(even.shape[1], even.shape[0]), fps=self._fps)
        self._encoder.write(even)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._undo(kind, error, trace)
            return
        with ExitStack() as guard:
            guard.push(self._undo)
            if self._encoder is None:
                raise InputError(f"nothing to write to {self.path}: no frame came; check the source")
            self._encoder.finish()
            guard.pop_all()
        self._rename.close()

    def _undo(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._encoder is not None:
            self._encoder.abandon()
        self._rename.__exit__(kind, error, trace)
        _remove_empty(self._made)


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        self._made = _lacking(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._room = Path(tempfile.mkdtemp(prefix=".fused-", dir=self.path))
        except OSError as error:
            _remove_empty(self._made)
            raise InputError(f"cannot write {self.path}: {error.strerror}; choose another folder") from error
        return self

    def write(self, index: int, picture: Image) -> None:
        write_png(self._room / f"{PREFIX}{index:06d}.png", picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            new = sorted(self._room.iterdir())
            if error is None and not new:
                raise InputError(f"nothing to write to {self.path}: no frame came; check the source")
            if error is None:
                for old in _held(self.path):
                    old.unlink()
                for image in new:
                    image.rename(self.path / image.name)
        finally:
            shutil.rmtree(self._room, ignore_errors=True)
            _remove_empty(self._made)


def _held(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}[0-9]*.png")) if folder.is_dir() else []


def _lacking(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
