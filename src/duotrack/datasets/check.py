"""What is wrong with a copy of a benchmark on disk, told instead of raised."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from duotrack.datasets.benchmarks import Benchmark
from duotrack.datasets.check_sequence import Finding, Seen, check_sequence
from duotrack.datasets.layouts import locate
from duotrack.errors import InputError, first_few, nearest


@dataclass(frozen=True)
class Check:
    """What was looked at and found; `quick`: images were not decoded."""

    benchmark: str
    root: str
    sequences: int
    frames: int
    images: int
    quick: bool
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)


def check_benchmark(
    which: Benchmark,
    root: str | Path,
    *,
    names: Iterable[str] | None = None,
    quick: bool = False,
    workers: int = 0,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Check:
    """Look at every sequence of a copy: folders, names, counts, boxes, images.

    Args:
        which: the benchmark.
        root: the copy.
        names: the sequences to look at; None for all of the published list, or all that are found without one.
        quick: look at the start and the end of each image only, instead of decoding it.
        workers: threads; 0 for one a core.
        watch: is told how many sequences of how many are done.

    Raises:
        InputError: no such folder, none of the sequences is in it, or a name that the benchmark does not have.
    """
    base = Path(root) / which.layout.prefix
    if not base.is_dir():
        raise InputError(f"{base}: no such folder; give the folder that holds the sequences")
    paths = _paths(which, base, names)
    folders = locate(base, which.layout, paths.values())
    if not folders:
        raise InputError(
            f"{base}: none of the {len(paths)} sequences of {which.title} is there ({next(iter(paths), 'no folder')}, "
            "...); is this the right folder?"
        )
    here = {name: folders[path] for name, path in paths.items() if path in folders}
    findings = [Finding(name, "missing", "there is no such folder") for name in paths if name not in here]
    if names is None:
        findings += _extra(here)
    seen: dict[str, Seen] = {}
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:  # decoding lets go of the interpreter
        look = partial(check_sequence, which, Path(root), quick=quick)
        waiting = {pool.submit(look, name, paths[name], folder): name for name, folder in here.items()}
        for done, future in enumerate(as_completed(waiting), 1):
            seen[waiting[future]] = future.result()
            watch(done, len(waiting))
    for name in here:
        findings += seen[name].findings
    frames, images = (sum(getattr(each, part) for each in seen.values()) for part in ("frames", "images"))
    if names is None and which.frames is not None and len(here) == len(paths) and frames != which.frames:
        findings.append(Finding("", "frames", f"{frames} in all, published are {which.frames}", wrong=False))
    return Check(which.name, str(root), len(here), frames, images, quick, tuple(findings))


def _paths(which: Benchmark, base: Path, names: Iterable[str] | None) -> dict[str, str]:
    known = which.paths
    if not known:
        parts = (which.layout.boxes, which.layout.rgb, which.layout.aux)
        folders = sorted(entry.name for entry in os.scandir(base) if entry.is_dir())
        known = {name: name for name in folders if any((base / name / part).exists() for part in parts)}
    if names is None:
        return known
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise InputError(f"{which.name} has no sequence {name!r}{nearest(name, list(known))}")
    return {name: known[name] for name in wanted}


def _extra(here: dict[str, Path]) -> list[Finding]:
    """Folders beside the sequences that are none of them."""
    ours = set(here.values())
    found = []
    for parent in sorted({folder.parent for folder in ours}):
        entries = (entry for entry in os.scandir(parent) if entry.is_dir() and not entry.name.startswith("."))
        other = sorted(entry.name for entry in entries if not any(Path(entry.path) in (f, *f.parents) for f in ours))
        if other:
            found.append(Finding("", "extra folders", f"{len(other)} in {parent}: {first_few(other)}", wrong=False))
    return found
