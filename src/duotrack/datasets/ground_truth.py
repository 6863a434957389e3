"""Ground truths of a benchmark, from a copy of the data set or from an archive of its text files alone."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duotrack.datasets.annotation import enclosing
from duotrack.datasets.benchmarks import Benchmark, Labels
from duotrack.datasets.layouts import list_images, locate
from duotrack.datasets.rows import parse_rows, split_lines
from duotrack.datasets.sequence import read_picture
from duotrack.datasets.tree import Tree, open_tree
from duotrack.errors import InputError, first_few, nearest

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What is true of one sequence.

    Attributes:
        name: of the sequence.
        boxes: one (N, 4) float64 x, y, w, h in pixels, or one a modality, visible first; nan where there is none.
        frames: (N,) int64, the frame that each row belongs to.
        absent: (N,) where absence is labelled beside the boxes; None where it is not.
        attributes: the challenges that it stands for.
        size: (width, height) of its frames, where the benchmark's measure needs it and frames are at hand.
    """

    name: str
    boxes: tuple[NDArray[np.float64], ...]
    frames: NDArray[np.int64]
    absent: NDArray[np.bool_] | None = None
    attributes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        """The number of annotated frames."""
        return len(self.frames)


def read_ground_truth(
    which: Benchmark, root: str | Path, *, names: Iterable[str] | None = None, allow_missing: bool = False
) -> list[GroundTruth]:
    """The ground truth of every sequence, in the order of the benchmark's list.

    Args:
        which: the benchmark.
        root: a copy of the data set, or its text files alone: a folder or a zip file, as published with evaluation
            tools (`lasher_gt/`, `rgbt234_gt/`, ...), with or without a top folder of the benchmark's title.
        names: the sequences to take; None for all of the list in the copy, else the published list, else all found.
        allow_missing: go on without the sequences that are not there, and say so in the log.

    Raises:
        InputError: sequences are missing, none are there, or a file is broken; names file and line.
    """
    with open_tree(root) as tree:
        tops = ("", f"{which.complete.title}/")
        paths = _paths(which, tree, tops, names)
        found = [_find(tree, tops, labels.places, paths) for labels in which.labels]
        kept = [name for name in paths if all(name in files for files in found)]
        if not kept:
            raise InputError(
                f"{root}: no ground truth of {which.title} is there (looked for {_looked_for(which, paths)}); "
                "give a copy of the data set or the archive of its ground truths"
            )
        missing = [name for name in paths if name not in set(kept)]
        if missing:
            message = f"{root}: {len(missing)} of {len(paths)} sequences have no ground truth: {first_few(missing)}"
            if not allow_missing:
                raise InputError(f"{message}; complete the copy, or score the rest with --allow-missing")
            log.warning("%s; the rest is scored", message)
        boxes = [
            _boxes(tree, [files[name] for name in kept], labels, nan=which.layout.nan)
            for files, labels in zip(found, which.labels, strict=True)
        ]
        absent = _absent(which, tree, tops, {name: paths[name] for name in kept}, [len(each) for each in boxes[0]])
    sizes = _sizes(which, Path(root), {name: paths[name] for name in kept}) if which.modality == "depth" else {}
    truths = []
    for index, name in enumerate(kept):
        pair = [side[index] for side in boxes]
        shortest = min(map(len, pair))
        if any(len(side) != shortest for side in pair):
            lengths = " and ".join(str(len(side)) for side in pair)
            log.warning("%s: its two ground truths have %s rows, cut to the shorter", name, lengths)
        start = which.layout.starts.get(name, 0)
        truths.append(
            GroundTruth(
                name,
                tuple(side[:shortest] for side in pair),
                np.arange(shortest, dtype=np.int64) * which.layout.every + start,
                None if absent is None else absent[index][:shortest],
                tuple(key for key, having in which.attribute_table.items() if name in having),
                sizes.get(name),
            )
        )
    return truths


def _paths(which: Benchmark, tree: Tree, tops: Sequence[str], names: Iterable[str] | None) -> dict[str, str]:
    """Sequence name -> path, of the sequences asked for."""
    listed = next((top + file for top in tops for file in which.lists if tree.has(top + file)), None)
    if listed is not None:
        lines = [line.decode("utf-8", "replace").strip() for line in split_lines(tree.read(listed))]
        paths = {line.rpartition("/")[2]: line for line in lines if line}
        known = which.paths
        if known and set(paths) != set(known):
            same = len(set(paths) & set(known))
            log.warning("%s names %d sequences, %d of the published %d", listed, len(paths), same, len(known))
        paths = {name: known.get(name, line) for name, line in paths.items()}
    else:
        paths = which.paths or _discovered(which, tree)
    if names is None:
        return paths
    wanted = list(names)
    for name in wanted:
        if paths and name not in paths:
            raise InputError(f"{which.name} has no sequence {name!r}{nearest(name, list(paths))}")
    return {name: paths[name] for name in wanted}


def _discovered(which: Benchmark, tree: Tree) -> dict[str, str]:
    best: set[str] = set()
    for place in which.labels[0].places:
        if place.startswith("{name}/"):
            found = {name for name in tree.folders() if tree.has(place.format(name=name, path=name))}
        else:
            pattern = re.compile(re.escape(place).replace(r"\{name\}", "([^/]+)"))
            found = {match[1] for match in map(pattern.fullmatch, tree.files()) if match}
        if len(found) > len(best):
            best = found
    return {name: name for name in sorted(best)}


def _find(tree: Tree, tops: Sequence[str], places: Sequence[str], paths: Mapping[str, str]) -> dict[str, str]:
    """Sequence name -> file, from the place that has the most of them."""
    best: dict[str, str] = {}
    for top in tops:
        for place in places:
            files = {name: top + place.format(name=name, path=path) for name, path in paths.items()}
            found = {name: file for name, file in files.items() if tree.has(file)}
            if len(found) > len(best):
                best = found
            if len(best) == len(paths):
                return best
    return best


def _boxes(tree: Tree, files: list[str], labels: Labels, *, nan: bool) -> list[NDArray[np.float64]]:
    parsed = parse_rows(tree.read_all(files), [tree.at(file) for file in files])
    blank = [file for file, rows in zip(files, parsed, strict=True) if rows.blank]
    if blank:
        log.warning("blank lines between rows, skipped, in %d ground truths: %s", len(blank), first_few(blank))
    for file, rows in zip(files, parsed, strict=True):
        odd = np.flatnonzero(np.isinf(rows.values).any(axis=1) | (np.isnan(rows.values).any(axis=1) & (not nan)))
        if len(odd):
            log.warning("%s: %d rows of the ground truth hold nan or inf, first row %d", file, len(odd), odd[0] + 1)
    corners = labels.corners
    return [enclosing(rows.values) if corners or rows.values.shape[1] == 8 else rows.values for rows in parsed]


def _absent(
    which: Benchmark, tree: Tree, tops: Sequence[str], paths: Mapping[str, str], lengths: list[int]
) -> list[NDArray[np.bool_]] | None:
    if not which.absent:
        return None
    found = [(kind, _find(tree, tops, kind.places, paths)) for kind in which.absent]
    kind, files = max(found, key=lambda each: len(each[1]))
    missing = [name for name in paths if name not in files]
    if missing:
        raise InputError(
            f"{tree.root}: {len(missing)} of {len(paths)} sequences have no absence labels: {first_few(missing)}; "
            f"{which.title} cannot be scored without ({' or '.join(kind.places[0] for kind in which.absent)})"
        )
    ordered = [files[name] for name in paths]
    names = [tree.at(file) for file in ordered]
    parsed = parse_rows(tree.read_all(ordered), names, widths=(1,), row="0 or 1")
    flags = []
    for file, rows, length in zip(names, parsed, lengths, strict=True):
        if len(rows.values) != length or not np.isin(rows.values, (0, 1)).all():
            raise InputError(
                f"{file}: {len(rows.values)} absence labels for {length} boxes; it should be one 0 or 1 each"
            )
        flags.append(rows.values[:, 0] == kind.absent)
    return flags


def _sizes(which: Benchmark, root: Path, paths: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """(width, height) of the first frame of each sequence whose frames are at hand."""
    if not root.is_dir():
        return {}
    folders = locate(root, which.layout, paths.values())
    sizes = {}
    for name, path in paths.items():
        side = folders[path] / which.layout.rgb if path in folders else None
        names = list_images(side) if side is not None and side.is_dir() else ()
        image = read_picture(side / names[0])[0] if side is not None and names else None
        if image is not None:
            sizes[name] = (image.shape[1], image.shape[0])
    return sizes


def _looked_for(which: Benchmark, paths: Mapping[str, str]) -> str:
    name, path = next(iter(paths.items()), ("<sequence>", "<sequence>"))
    places = [place.format(name=name, path=path) for place in which.labels[0].places[:3]]
    return ", ".join(places)
