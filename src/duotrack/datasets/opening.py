"""The frames of a benchmark's sequences, from a copy of the data set."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from duotrack.datasets.annotation import read_boxes
from duotrack.datasets.benchmarks import Benchmark
from duotrack.datasets.layouts import locate, open_layout
from duotrack.datasets.sequence import Sequence

_ONCE = 2**62
"""A box every so many frames: the first alone."""


def open_benchmark(which: Benchmark, root: str | Path, *, names: Iterable[str] | None = None) -> list[Sequence]:
    """The sequences of a copy of a benchmark, to be tracked: their first boxes are those that trackers start from.

    Where a sequence has one box and many frames, it keeps its frames and the other boxes are nan.

    Args:
        names: the sequences to take; None for the published list, or all that are found where there is none.

    Raises:
        InputError: as `open_layout`.
    """
    paths = list(which.paths.values()) or None if names is None else [which.paths.get(name, name) for name in names]
    if paths is None:
        paths = [sequence.name for sequence in open_layout(root, which.layout)]
    folders = locate(Path(root) / which.layout.prefix, which.layout, paths)
    boxes = {path: folder / which.layout.boxes for path, folder in folders.items()}
    single = {path for path, file in boxes.items() if len(read_boxes(file, nan=which.layout.nan)) == 1}
    opened: dict[str, Sequence] = {}
    for layout, part in (
        (which.layout, [path for path in paths if path not in single]),
        (replace(which.layout, every=_ONCE), [path for path in paths if path in single]),
    ):
        if part:
            opened |= zip(part, open_layout(root, layout, names=part), strict=True)
    return [opened[path] for path in paths]
