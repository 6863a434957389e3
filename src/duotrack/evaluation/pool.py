"""Worker processes that each track one sequence at a time, for CPUs.

Every worker computes with one thread: then its boxes do not depend on how many workers there are. Another one reads the
next frame meanwhile. A worker whose parent is gone ends by itself, at the next thing it has to say.
"""

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from duotrack.datasets.sequence import Sequence as Frames
from duotrack.errors import InputError
from duotrack.evaluation.lockstep import Advanced, Event, Tracked, track_sequences
from duotrack.tracking.tracker import Tracker

_SAY_EVERY = 0.5
"""Seconds between two words of progress from a worker."""


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    busy_with: str = ""


def track_in_pool(
    sequences: Sequence[Frames], *, load: Callable[[], Tracker], keep: Callable[[Tracked], None], workers: int
) -> Iterator[Event]:
    """As `track_sequences`, in that many processes; sequences are taken in order, by whoever is free.

    Args:
        load: makes a worker's tracker; must travel to another process, as a `functools.partial` of functions does.
        keep: is given each tracked sequence, in the worker; must travel as well.

    Raises:
        InputError, OSError: from `load` or `keep`, or a worker was ended from outside.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    waiting = deque(sequences)
    crew: list[_Worker] = []
    active: list[_Worker] = []
    try:
        for _ in range(min(workers, len(sequences))):
            line, far = context.Pipe()
            process = context.Process(target=_work, args=(far, load, keep), daemon=True)
            process.start()
            far.close()
            crew.append(_Worker(process, line))
            active.append(crew[-1])
        while active:
            ready = wait([worker.line for worker in active])
            for worker in [worker for worker in active if worker.line in ready]:
                said = _hear(worker)
                if isinstance(said, Exception):
                    raise said
                if said is not None:
                    yield said
                    continue
                following = waiting.popleft() if waiting else None  # it is free
                _tell(worker, following)
                if following is None:
                    active.remove(worker)
    finally:
        for worker in crew:
            worker.line.close()
            if worker in active:
                worker.process.terminate()
        for worker in crew:
            worker.process.join()


def _hear(worker: _Worker) -> Event | Exception | None:
    try:
        said: Event | Exception | None = worker.line.recv()
    except (EOFError, ConnectionError):
        return _gone(worker)
    return said


def _tell(worker: _Worker, sequence: Frames | None) -> None:
    worker.busy_with = "" if sequence is None else sequence.name
    try:
        worker.line.send(sequence)
    except ConnectionError as error:
        raise _gone(worker) from error


def _gone(worker: _Worker) -> InputError:
    worker.process.join()
    where = f"while tracking {worker.busy_with}" if worker.busy_with else "at its start"
    return InputError(
        f"a worker process ended {where} (exit code {worker.process.exitcode}; out of memory?); "
        "what is finished is kept: start again, with fewer --workers"
    )


def _work(line: Connection, load: Callable[[], Tracker], keep: Callable[[Tracked], None]) -> None:
    """What a worker does: say None when free, track what comes, stop when None comes."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    torch.set_num_threads(1)
    with suppress(EOFError, ConnectionError):  # the parent is gone
        try:
            tracker = load()
            line.send(None)
            while (sequence := line.recv()) is not None:
                _track(line, tracker, sequence, keep)
                line.send(None)
        except (InputError, OSError) as error:
            if isinstance(error, ConnectionError):
                raise
            line.send(error)


def _track(line: Connection, tracker: Tracker, sequence: Frames, keep: Callable[[Tracked], None]) -> None:
    frames, said = 0, time.monotonic()
    for event in track_sequences(tracker, [sequence], readers=1):
        if isinstance(event, Advanced):
            frames += event.frames
            if time.monotonic() - said < _SAY_EVERY:
                continue
            event, frames, said = Advanced(frames), 0, time.monotonic()
        elif isinstance(event, Tracked):
            keep(event)
        line.send(event)
    line.send(Advanced(frames))
