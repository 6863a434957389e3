"""Running a model over a benchmark: one pass, resumable, in a batch or a process pool, on one or many ranks."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

from duotrack.datasets.fingerprint import fingerprint
from duotrack.datasets.sequence import Sequence as Frames
from duotrack.depth import Colours
from duotrack.errors import InputError
from duotrack.evaluation.lockstep import Event, Failed, Tracked, track_sequences
from duotrack.evaluation.pool import track_in_pool
from duotrack.evaluation.ranks import Ranks, shard
from duotrack.evaluation.state import Identity, finished, noted, open_run, save
from duotrack.files import digest
from duotrack.frames import Kind
from duotrack.models.zoo import model_spec
from duotrack.runtime.backends import backend_device, check_backend, facts_of, trained_by
from duotrack.tracking.load import load_tracker
from duotrack.tracking.missing import DEFAULT_POLICY
from duotrack.tracking.question import default_stack
from duotrack.tracking.template import TemplateRule
from duotrack.tracking.tracker import Tracker
from duotrack.weights.task import settle_kind, stated_crops

_READERS = 16
"""Threads that decode ahead for a GPU, at most; each sequence of the batch has one frame in hand. One for a CPU."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is run, and how.

    `weights` None takes the package's; `backend` and `precision` as in `load_tracker`; `templates` None the model's own
    way of renewing its second template; `batch` sequences advance together in each process; `workers` processes (CPU
    only), 0 for one a core on the CPU and one on a GPU; `integers` truncates the boxes in the files; `modality` is what
    the auxiliary frames show, `depth_colours` how depth is rendered; `missing` is the policy for a sensor that drops
    out (`duotrack.tracking.missing`); `redetect` adds re-detection (`duotrack.tracking.redetect`), which no published
    one-pass result has.
    """

    model: str
    weights: Path | None = None
    device: str = "auto"
    backend: str | None = None
    precision: str | None = None
    elimination: str | None = None
    templates: TemplateRule | None = None
    batch: int = 1
    workers: int = 0
    integers: bool = False
    modality: Kind = "thermal"
    depth_colours: Colours = "bgr"
    missing: str = DEFAULT_POLICY
    redetect: bool = False


@dataclass(frozen=True)
class Started:
    """What this rank has to do: sequences and frames, and how many sequences were finished before."""

    sequences: int
    frames: int
    done: int


@dataclass
class Outcome:
    """What happened, over all ranks: `tracked` sequences and `frames` now, `done` before; reasons of the `failed`;
    remarks a sequence in `notes`, earlier starts of this run counted in."""

    tracked: int = 0
    done: int = 0
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


def run_benchmark(
    sequences: Sequence[Frames],
    folder: str | Path,
    setup: Setup,
    *,
    dataset: str,
    mask: str = "none",
    overwrite: bool = False,
    ranks: Ranks | None = None,
    watch: Callable[[Started | Event], None] = lambda event: None,
) -> Outcome:
    """Track every sequence into `<folder>/<sequence>.txt` (see `duotrack.evaluation.state` for what else lies there).

    What a run with the same setup has finished is kept, so that a run that was killed at any point, started again,
    gives the files of one that was not. On the CPU neither `workers` nor `batch` changes a bit of them; on a GPU
    `batch` may (by rounding) and is part of what must be the same.

    Args:
        sequences: with names of their own; the first box of each starts its target, the others are not looked at.
        folder: the run's folder, `<out>/<tracker>/<dataset>`.
        dataset: the benchmark's name, noted in the run's record.
        mask: what identifies the masks of missing modalities that lie on the sequences; noted as well.
        overwrite: replace what the folder holds.
        ranks: share the work between these processes, longest sequences first; all return the same outcome.
        watch: is told what this rank is to do, and every event.

    Raises:
        InputError: a bad setup, the folder holds another run, or a worker ended. A sequence that cannot be tracked is
            no error: it is in `failed`.
    """
    ranks = ranks or Ranks()
    folder = Path(folder)
    setup, identity = _prepare(setup, dataset, mask, ranks)
    lengths = {sequence.name: len(sequence) for sequence in sequences}
    if len(lengths) != len(sequences):
        raise InputError("two sequences have one name: their results would lie in one file")
    data = {sequence.name: fingerprint([sequence]) for sequence in sequences}
    _open_once(folder, identity, data, overwrite=overwrite, ranks=ranks)
    mine = shard(lengths, ranks.world)[ranks.rank]
    todo = [name for name in mine if not finished(folder, name, lengths[name])]
    by_name = {sequence.name: sequence for sequence in sequences}
    watch(Started(len(todo), sum(lengths[name] for name in todo), len(mine) - len(todo)))
    own = Outcome(done=len(mine) - len(todo))
    for event in _events([by_name[name] for name in todo], setup, identity, folder):
        if isinstance(event, Tracked):
            own.tracked += 1
        elif isinstance(event, Failed):
            own.failed[event.name] = event.reason
        else:
            own.frames += event.frames
        watch(event)
    outcome = _together(ranks.gather(own))
    outcome.notes = noted(folder, lengths)
    return outcome


def check_weights(model: str, weights: Path | None) -> str:
    """SHA-256 of the weights file that will be used, of OpenVINO IR of both of its files.

    Raises:
        InputError: an unknown model, no such file, or none given and none in the package: random values track nothing.
    """
    spec = model_spec(model)
    if weights is None:
        if spec.weights is not None:
            packaged = resources.files("duotrack") / "weights" / "files" / spec.weights
            if packaged.is_file():
                return hashlib.sha256(packaged.read_bytes()).hexdigest()
        raise InputError(f"{model} has no weights inside the package: give a file with --weights")
    if not weights.is_file():
        raise InputError(f"{weights}: no such weights file")
    if weights.suffix != ".xml":
        return digest(weights)
    numbers = weights.with_suffix(".bin")
    if not numbers.is_file():
        raise InputError(f"{weights} lies without its weights {numbers.name}: keep the two together")
    return hashlib.sha256(f"{digest(weights)}{digest(numbers)}".encode()).hexdigest()


def _prepare(setup: Setup, dataset: str, mask: str, ranks: Ranks) -> tuple[Setup, Identity]:
    """Everything settled: a device of this rank's own, a number of workers, the weights, the elimination in effect."""
    weights = check_weights(setup.model, setup.weights)
    # frames come rendered from their sequences, so that trackers need not know what they show
    spec = model_spec(setup.model)
    settle_kind(spec, trained_by(spec, setup.weights), setup.modality, colours=setup.depth_colours)
    backend, precision = check_backend(setup.backend, setup.precision, setup.weights)
    device = backend_device(backend, setup.device, precision)
    if setup.batch < 1 or setup.workers < 0:
        raise InputError(f"batch {setup.batch} and workers {setup.workers}: at least 1 sequence and 0 workers")
    if device.type == "cuda":
        if setup.workers > 1:
            raise InputError("worker processes are for the CPU; on a GPU sequences go in one batch: use --batch")
        import torch

        if str(device) == "cuda" and ranks.world > 1:
            device = torch.device("cuda", ranks.local % torch.cuda.device_count())
    if precision is None:
        assert setup.weights is not None, "only an export's precision is its own"
        precision = facts_of(setup.weights).precision
    workers = setup.workers or _cores(device.type, ranks)
    settled = Setup(
        **{**vars(setup), "device": str(device), "backend": backend, "precision": precision, "workers": workers}
    )
    tracker = _load(settled)()  # tells early whether the weights fit
    net = tracker.net
    identity = Identity(
        model=setup.model,
        weights=weights,
        elimination=str(getattr(getattr(net, "net", net), "elimination", None)),
        templates="none" if tracker.templates is None else str(tracker.templates),
        backend=backend,
        precision=precision,
        device=device.type,
        stack=default_stack(device, setup.batch),
        integers=setup.integers,
        dataset=dataset,
        mask=mask,
        missing=setup.missing,
        redetect=setup.redetect,
        crops=stated_crops(tracker.geometry),
    )
    return settled, identity


def _cores(kind: str, ranks: Ranks) -> int:
    """How many workers use the CPU well: a core each, shared between the ranks on this machine; one on a GPU."""
    if kind != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores // (int(beside) if beside.isdecimal() and int(beside) else ranks.world))


def _load(setup: Setup) -> Callable[[], Tracker]:
    return partial(
        load_tracker,
        setup.model,
        weights=setup.weights,
        device=setup.device,
        backend=setup.backend,
        precision=setup.precision,
        elimination=setup.elimination,
        missing=setup.missing,
        templates=setup.templates,
        redetect=setup.redetect,
    )


def _open_once(folder: Path, identity: Identity, data: dict[str, str], *, overwrite: bool, ranks: Ranks) -> None:
    """`open_run` on rank 0; what it raises, all raise."""
    refused: str | None = None
    if ranks.rank == 0:
        try:
            open_run(folder, identity, data, overwrite=overwrite)
        except (InputError, OSError) as error:
            refused = str(error)
    if (refused := ranks.share(refused)) is not None:
        raise InputError(refused)


def _events(sequences: list[Frames], setup: Setup, identity: Identity, folder: Path) -> Iterator[Event]:
    keep = partial(_keep, folder=folder, integers=setup.integers)
    if setup.workers > 1 and len(sequences) > 1:
        yield from track_in_pool(sequences, load=_load(setup), keep=keep, workers=setup.workers)
        return
    if not sequences:
        return
    tracker = _load(setup)()
    readers = min(setup.batch, _READERS) if identity.device == "cuda" else 1
    with _one_thread(identity.device):
        together = track_sequences(tracker, sequences, batch=setup.batch, stack=identity.stack, readers=readers)
        for event in together:
            if isinstance(event, Tracked):
                keep(event)
            yield event


def _keep(tracked: Tracked, *, folder: Path, integers: bool) -> None:
    save(folder, tracked, integers=integers)


@contextmanager
def _one_thread(kind: str) -> Iterator[None]:
    """On the CPU, sums round by how many threads share them: one thread, as in the worker processes."""
    import torch

    before = torch.get_num_threads()
    if kind == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _together(outcomes: list[Outcome]) -> Outcome:
    total = Outcome()
    for each in outcomes:
        total.tracked += each.tracked
        total.done += each.done
        total.frames += each.frames
        total.failed |= each.failed
    return total
