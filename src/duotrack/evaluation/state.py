"""What a benchmark run leaves on disk, and how a later start knows what of it can be kept.

A run has a folder of its own, `<out>/<tracker>/<dataset>/`: `<sequence>.txt` (one row a frame, frame 0 included),
`<sequence>_confidence.value` (the score of each frame), `<sequence>_time.txt` (seconds a frame), `notes/<sequence>.log`
where there was something to note, and `run.json`, which says what made them. Every file is written whole or not at all,
boxes last, so that a box file stands for a finished sequence. Only times differ between two equal runs.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError
from duotrack.evaluation.lockstep import Tracked
from duotrack.evaluation.results import RUN_FILE
from duotrack.files import write_text

log = logging.getLogger(__name__)

_OLDER = {
    "mask": "none",
    "missing": "model",
    "templates": "none",
    "backend": "torch",
    "redetect": False,
    "crops": "2 4",
}
"""What a record says that was written before these were known."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What decides the boxes of a run, but for the data.

    `weights` is the SHA-256 of the file; `elimination`, `templates` (their renewal), `backend` and `precision` those in
    effect; `device` "cpu" or "cuda"; `stack` samples in one forward of the network; `integers` whether rows are
    truncated; `mask` the SHA-256 of the masks of missing modalities, "none" without; `missing` the policy for a sensor
    that drops out; `redetect` whether a lost target was looked for in the whole frame; `crops` the sides of template
    and search region over the target's.
    """

    model: str
    weights: str
    elimination: str
    templates: str
    backend: str
    precision: str
    device: str
    stack: int
    integers: bool
    dataset: str
    mask: str = "none"
    missing: str = "model"
    redetect: bool = False
    crops: str


def open_run(folder: Path, identity: Identity, data: Mapping[str, str], *, overwrite: bool = False) -> None:
    """Begin a run in `folder`, or go on with the one that is there.

    Afterwards every box file of a sequence of `data` that is in the folder belongs to this run.

    Args:
        data: sequence name -> fingerprint of its frames and first box.
        overwrite: remove what another run left.

    Raises:
        InputError: the folder holds results of another run, or results that no run.json vouches for.
    """
    before: dict[str, str] = {}
    path = folder / RUN_FILE
    if path.exists() and not overwrite:
        before = _read(path, identity)
    unknown = [name for name in data if name not in before and (folder / f"{name}.txt").exists()]
    if unknown and not overwrite and not before:
        raise InputError(
            f"{folder} holds results ({unknown[0]}.txt, ...) but no {RUN_FILE} that says what made them; "
            "choose another --out or replace them with --overwrite"
        )
    if unknown and before:
        log.warning("%s: %s.txt and %d more are not of this run; replaced", folder, unknown[0], len(unknown) - 1)
    changed = sorted(name for name in data if before.get(name, data[name]) != data[name])
    if changed:
        raise InputError(
            f"{folder} holds results on other data: {len(changed)} sequences have changed since ({changed[0]}, ...); "
            "choose another --out or replace them with --overwrite"
        )
    for name in unknown if not overwrite else data:
        for file in _files(folder, name).values():
            file.unlink(missing_ok=True)
    for leftover in [*folder.glob(".*-*"), *folder.glob("notes/.*-*")]:  # of a write that a kill broke off
        leftover.unlink(missing_ok=True)
    written = {"duotrack": version("duotrack"), "torch": version("torch")}
    content = {**asdict(identity), "made_with": written, "sequences": dict(sorted({**before, **data}.items()))}
    text = json.dumps(content, indent=1) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _read(path: Path, identity: Identity) -> dict[str, str]:
    """The sequences of an earlier run with the same identity, and the fingerprints of their data."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sequences = {str(name): str(mark) for name, mark in content["sequences"].items()}
        made_with = dict(content["made_with"])
        old = {key: (_OLDER | content)[key] for key in asdict(identity)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a run's record ({error!r}); choose another --out or replace it with --overwrite"
        ) from error
    differing = [f"{key} {old[key]} there, {value} now" for key, value in asdict(identity).items() if old[key] != value]
    if differing:
        raise InputError(
            f"{path.parent} holds results of another run ({'; '.join(differing)}); "
            "choose another --out or replace them with --overwrite"
        )
    for package, then in made_with.items():
        if package in ("duotrack", "torch") and then != version(package):
            log.warning("this run began with %s %s and goes on with %s", package, then, version(package))
    return sequences


def finished(folder: Path, name: str, frames: int) -> bool:
    """Whether a sequence's boxes are all there; a file that is not complete is said in the log, to be made again."""
    path = folder / f"{name}.txt"
    if not path.exists():
        return False
    rows = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    complete = len(rows) == frames and all(_is_row(row) for row in rows)
    if not complete:
        log.warning("%s: %d good rows expected, %d rows found; it is tracked again", path, frames, len(rows))
    return complete


def _is_row(row: str) -> bool:
    try:
        return len([float(field) for field in row.replace(",", "\t").split("\t")]) == 4
    except ValueError:
        return False


def save(folder: Path, tracked: Tracked, *, integers: bool) -> None:
    """Write a sequence's files, the boxes last."""
    files = _files(folder, tracked.name)
    if tracked.notes:
        write_text(files["notes"], "".join(f"{note}\n" for note in tracked.notes))
    else:
        files["notes"].unlink(missing_ok=True)
    write_text(files["times"], "".join(f"{max(seconds, 1e-6):f}\n" for seconds in tracked.seconds.tolist()))
    write_text(files["scores"], "".join(f"{score!r}\n" for score in tracked.scores.tolist()))
    write_text(files["boxes"], rows(tracked.boxes, integers=integers))


def rows(boxes: NDArray[np.float64], *, integers: bool) -> str:
    """Box rows: every digit that matters and commas, or as CKD's release writes them: truncated, tabs."""
    if integers:
        return "".join("\t".join(str(int(value)) for value in box) + "\n" for box in boxes.tolist())
    return "".join(",".join(map(repr, box)) + "\n" for box in boxes.tolist())


def noted(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Sequence -> number of remarks about its frames, of those that have any."""
    files = {name: _files(folder, name)["notes"] for name in names}
    return {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in files.items() if file.exists()}


def _files(folder: Path, name: str) -> dict[str, Path]:
    return {
        "boxes": folder / f"{name}.txt",
        "scores": folder / f"{name}_confidence.value",
        "times": folder / f"{name}_time.txt",
        "notes": folder / "notes" / f"{name}.log",
    }
