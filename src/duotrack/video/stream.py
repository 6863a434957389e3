"""One stream of frames, wherever it comes from, and decoding ahead of the one who reads it."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from duotrack.frames import Image


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of one stream.

    `image` is (H, W, 3) uint8 RGB, or None where the frame is there but cannot be read; `time` is in seconds on the
    stream's own clock where it is known; `note` is a remark for the log, None in the usual case.
    """

    index: int
    image: Image | None
    time: float | None = None
    note: str | None = None


class Source(Protocol):
    """What every stream can be asked: its name, kind, size (width, height), frame rate, length; None where unknown."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def length(self) -> int | None: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


@dataclass(eq=False)
class Stream:
    """A recorded stream that has been opened: iterate once, close (or use it as a context manager).

    `length` is the number of frames that the file declares; `exact` says whether that is a count (it can be compared
    with another stream's) or an estimate from duration and frame rate.
    """

    name: str
    kind: str
    size: tuple[int, int]
    fps: float | None
    length: int | None
    frames: Iterator[Frame]
    release: Callable[[], None]
    exact: bool = True

    def __iter__(self) -> Iterator[Frame]:
        return self.frames

    def close(self) -> None:
        """Release the file; may be called more than once."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prefetched(stream: Stream, *, depth: int = 4) -> Stream:
    """The same stream, decoded in a background thread up to `depth` frames ahead.

    An error while decoding is raised to the reader at the frame where it happened. Closing waits for the frame being
    decoded, ends the thread and closes `stream`.
    """
    frames = iter(stream)
    # one small task a frame, not one long producer: the thread never blocks on a full queue, so it can always end
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="duotrack-decode")
    pending: deque[Future[Frame | None]] = deque()

    def ahead() -> Iterator[Frame]:
        for _ in range(depth):
            pending.append(executor.submit(next, frames, None))
        while (frame := pending.popleft().result()) is not None:
            pending.append(executor.submit(next, frames, None))
            yield frame

    def release() -> None:
        executor.shutdown(wait=True, cancel_futures=True)
        stream.close()

    return Stream(
        name=stream.name,
        kind=stream.kind,
        size=stream.size,
        fps=stream.fps,
        length=stream.length,
        frames=ahead(),
        release=release,
        exact=stream.exact,
    )
