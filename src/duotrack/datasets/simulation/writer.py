"""Whole simulated sequences, written in LasHeR's layout."""

import json
import logging
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from duotrack.datasets.dropouts import draw_mask
from duotrack.datasets.missing import Mask, write_masks
from duotrack.datasets.patterns import PATTERNS
from duotrack.datasets.simulation.assets import VERSION, Pool
from duotrack.datasets.simulation.attributes import MEANINGS, against, attributes_of, check_wanted, forced, pushed
from duotrack.datasets.simulation.draw import draw_scene
from duotrack.datasets.simulation.render import Truth, thermal_frame, truth, visible_frame
from duotrack.datasets.simulation.scene import Scene
from duotrack.datasets.simulation.settings import Scenes
from duotrack.errors import InputError
from duotrack.files import write_text
from duotrack.frames import Image

log = logging.getLogger(__name__)

RECORD = "simulation.json"
"""In each sequence: how it was made, its attributes, and what is true of each frame beside the box."""
TABLE, MASKS = "attributes.json", "missing_results_simulated.json"
TRIES = 300
"""Scenes drawn for a sequence before what was asked for is called impossible."""
FIRST_SHOWN, PRESENT = 0.6, 0.4
"""Share of the target in view in the first frame, and share of frames that show it, at least."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be written.

    `sequences` of `frames` frames each from `seed`; all have the attributes `wanted`; `dropouts` is the share of their
    frames that lack a modality; pictures are of `format`, JPEG with a `quality` of 1 to 100.
    """

    sequences: int
    frames: int
    seed: int = 0
    wanted: frozenset[str] = frozenset()
    dropouts: float = 0.0
    format: Literal["jpg", "png"] = "jpg"
    quality: int = 92

    def __post_init__(self) -> None:
        if self.sequences < 1 or self.frames < 2:
            raise InputError(f"{self.sequences} sequences of {self.frames} frames: at least 1 of 2 frames")
        if not 0 <= self.dropouts < 1 or not 1 <= self.quality <= 100 or self.seed < 0:
            got = f"dropouts {self.dropouts:g}, quality {self.quality}, seed {self.seed}"
            raise InputError(f"{got}: dropouts lie in [0, 1), quality in 1 to 100, a seed is not negative")
        check_wanted(self.wanted, self.frames)


@dataclass(frozen=True, eq=False)
class Take:
    """A sequence before it is rendered: `shown[i]` are the moments that the two cameras show in frame i."""

    scene: Scene
    truths: list[Truth]
    shown: list[tuple[int, int]]
    mask: Mask
    attributes: frozenset[str]


def write_sequences(
    out: str | Path,
    order: Order,
    pool: Pool,
    settings: Scenes,
    *,
    workers: int = 1,
    watch: Callable[[str, bool], None] = lambda name, made: None,
) -> dict[str, frozenset[str]]:
    """Render into `<out>/sim<seed>_<number>/`; sequences that are there already are kept.

    Beside them lie `attributes.json` and, with dropouts, masks for evaluation: of every sequence in the folder, of
    whatever run. Lost pictures are black.

    Args:
        out: a folder; a run that was interrupted goes on where it stopped.
        order: what is to be written. pool: the pictures. settings: what scenes hold.
        workers: threads; the files do not depend on their number.
        watch: is told each sequence's name, and whether it was made now.

    Returns:
        Name -> attributes.

    Raises:
        InputError: `out` holds sequences made otherwise, or no scene has the wanted attributes.
    """
    out = Path(out)
    settings = forced(settings, order.wanted, lossy=order.dropouts > 0)
    names = [f"sim{order.seed}_{index:05d}" for index in range(order.sequences)]
    made = json.loads(
        json.dumps(
            {
                "version": VERSION,
                "pictures": pool.fingerprint,
                "order": {**asdict(order), "wanted": sorted(order.wanted), "sequences": None},
                "scenes": settings.model_dump(),
            }
        )
    )

    def one(index: int) -> dict[str, Any]:
        name = names[index]
        record = _kept(out / name, made)
        there = record is not None
        if record is None:
            record = _write(out / name, draw_take(index, order, pool, settings), made, index, order)
        watch(name, not there)
        return record

    with ThreadPoolExecutor(max(1, workers)) as threads:
        records = dict(zip(names, threads.map(one, range(order.sequences)), strict=True))
    _write_tables(out, {**_others(out, records), **records}, masked=order.dropouts > 0)
    return {name: frozenset(record["attributes"]) for name, record in records.items()}


def _others(out: Path, known: Collection[str]) -> dict[str, dict[str, Any]]:
    """The records of the folder's other sequences: of another seed, or of a run that asked for more."""
    found = {}
    for path in out.glob(f"*/{RECORD}"):
        name = path.parent.name
        if name in known or name.startswith("."):  # a sequence that is not whole
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            mask = np.array(record["available"])
            whole = isinstance(record["attributes"], list) and mask.ndim == 2 and mask.shape[1] == 2
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if whole:
            found[name] = record
        else:
            log.warning("%s cannot be read; its sequence is left out of the tables of %s", path, out)
    return found


def _write_tables(out: Path, records: dict[str, dict[str, Any]], *, masked: bool) -> None:
    """Which sequence has which attribute; the masks of all where one has losses, or where they are asked for."""
    records = dict(sorted(records.items()))
    table = {each: [name for name in records if each in records[name]["attributes"]] for each in MEANINGS}
    write_text(out / TABLE, json.dumps({"meanings": MEANINGS, "sequences": table}, indent=1) + "\n")
    masks = {name: np.array(record["available"], np.bool_) for name, record in records.items()}
    if masked or not all(mask.all() for mask in masks.values()):
        write_masks(out / MASKS, masks)


def draw_take(index: int, order: Order, pool: Pool, settings: Scenes) -> Take:
    """Sequence number `index`: the first scene that begins with the target in view and has the wanted attributes.

    Raises:
        InputError: none of `TRIES` scenes is so.
    """
    settings = forced(settings, order.wanted, lossy=order.dropouts > 0)
    for attempt in range(TRIES):
        rng = _rng(order.seed, index, 0, attempt)
        scene = pushed(draw_scene(rng, pool, settings, order.frames), order.wanted)
        truths = [truth(scene, time) for time in range(order.frames)]
        shown = _shown(rng, order.frames, settings.freezes)
        mask = np.ones((order.frames, 2), np.bool_)
        if order.dropouts:
            pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
            mask = draw_mask(
                order.frames, pattern, order.dropouts, PCG64(SeedSequence(order.seed, spawn_key=(index, 2)))
            )
        found = attributes_of(scene, truths, shown, mask)
        there = float(np.mean([each.present for each in truths]))
        begins = truths[0].shown >= FIRST_SHOWN and min(truths[0].box[2:]) >= 0.7 * settings.smallest
        if begins and there >= PRESENT and order.wanted <= found:
            return Take(scene, truths, shown, mask, found)
    what = f"the attributes {', '.join(sorted(order.wanted))}" if order.wanted else "its target in view"
    kept = "".join(f", or leave out {each}" for each in against(settings, order.wanted))
    raise InputError(
        f"none of {TRIES} scenes of {order.frames} frames has {what}; ask for less, or for more frames{kept}"
    )


def frames_of(take: Take, index: int, number: int, seed: int) -> tuple[Image, Image]:
    """Frame `number` of sequence `index` as its two cameras give it; black where it is lost."""
    early, late = take.shown[number]
    # the noise belongs to the moment: a frozen camera gives the very same picture
    visible = visible_frame(take.scene, early, _rng(seed, index, 3, early))
    thermal = thermal_frame(take.scene, late, _rng(seed, index, 4, late))
    there = take.mask[number]
    return (visible if there[0] else np.zeros_like(visible), thermal if there[1] else np.zeros_like(thermal))


def _shown(rng: Generator, frames: int, share: float) -> list[tuple[int, int]]:
    """Which moment each camera shows: stretches of 4 to 30 frames in which one stands still, `share` of all."""
    times = np.stack([np.arange(frames)] * 2, axis=1)
    for _ in range(int(rng.poisson(2 * share * frames / 17))):
        length, side = int(rng.integers(4, 31)), int(rng.integers(2))
        start = int(rng.integers(1, max(frames - length, 2)))
        times[start : start + length, side] = times[start, side]
    return [(int(a), int(b)) for a, b in times]


def _kept(folder: Path, made: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a sequence that is there already; None where there is none."""
    if not folder.exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    if not isinstance(record, dict) or record.get("made") != made:
        raise InputError(f"{folder} was not made so; remove it, or give another folder or --seed")
    return record


def _write(folder: Path, take: Take, made: dict[str, Any], index: int, order: Order) -> dict[str, Any]:
    """One sequence, whole or not at all."""
    partial = folder.with_name(f".{folder.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    for side in ("visible", "infrared"):
        (partial / side).mkdir(parents=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, order.quality] if order.format == "jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    for number in range(order.frames):
        for side, image in zip(("visible", "infrared"), frames_of(take, index, number, order.seed), strict=True):
            coded = cv2.imencode(f".{order.format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
            (partial / side / f"{number:06d}.{order.format}").write_bytes(coded.tobytes())
    rows = "".join(",".join(f"{value:.2f}" for value in each.box) + "\n" for each in take.truths)
    write_text(partial / "init.txt", rows)
    record = {
        "made": made,
        "index": index,
        "attributes": sorted(take.attributes),
        "shown": [round(each.shown, 3) for each in take.truths],
        "inside": [round(each.inside, 3) for each in take.truths],
        "contrast": [round(take.scene.contrast(time), 3) for time in range(order.frames)],
        "moments": take.shown,
        "available": take.mask.astype(int).tolist(),
    }
    write_text(partial / RECORD, json.dumps(record) + "\n")
    partial.rename(folder)
    return json.loads(json.dumps(record))


def _rng(seed: int, index: int, *key: int) -> Generator:
    return np.random.default_rng(SeedSequence(seed, spawn_key=(index, *key)))
