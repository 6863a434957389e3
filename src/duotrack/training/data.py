"""From folders on the command line to training pairs."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from duotrack.datasets.fingerprint import fingerprint
from duotrack.datasets.layouts import Layout, LayoutName, lasher_names, layout_named, open_layout, own_layout
from duotrack.datasets.sequence import Sequence
from duotrack.datasets.simulation.assets import canvas_for, load_pool
from duotrack.datasets.simulation.settings import Simulation
from duotrack.datasets.stills import open_stills
from duotrack.depth import Colours
from duotrack.errors import InputError, nearest
from duotrack.frames import Kind
from duotrack.fusion.cache import FrameCache
from duotrack.models.zoo import Geometry
from duotrack.training.augmentation import Augmentation, Jitter
from duotrack.training.pairs import PairDataset, Simulated, Source
from duotrack.training.sampling import Sampling
from duotrack.training.settings import Settings
from duotrack.training.synthesis import Synthesis

log = logging.getLogger(__name__)


class DataSettings(Settings):
    """How folders are read and pairs are drawn; the folders themselves come from the command line."""

    layout: LayoutName = Field(
        default="lasher", description="where a sequence keeps frames and boxes; your own folders: like LasHeR"
    )
    modality: Kind | None = Field(
        default=None,
        description="what auxiliary frames show; null = as the layout. Your own folders: depth lies in depth/ (16-bit, "
        "millimetres), event frames in event/",
    )
    depth_colours: Colours = Field(
        default="bgr", description="order of the channels of rendered depth; published checkpoints saw bgr"
    )
    split: Literal["train", "test", "all"] | None = Field(
        default=None,
        description="published LasHeR list to train on; null = --names, or every sequence",
    )
    validation_split: Literal["train", "test", "all"] | None = Field(default=None, description="as split, for --val")
    hold_out_every: int | None = Field(
        default=None,
        ge=2,
        description="n: without --val, every n-th sequence of each --data folder is held out instead of trained on",
    )
    stills_ratio: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="pairs from --stills for each pair from one --data folder",
    )
    simulation: Simulation = Field(default_factory=Simulation, description="rendered pairs as one more source")
    sampling: Sampling = Field(default_factory=Sampling, description="which two frames make a pair")
    jitter: Jitter = Field(default_factory=Jitter, description="how far the search crop strays from the target")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="light, mirroring, damage")
    synthesis: Synthesis = Field(default_factory=Synthesis, description="made-up partners of single modalities")

    @property
    def kind(self) -> Kind:
        """What the auxiliary frames show."""
        return self.modality or _layout(self).kind


@dataclass(frozen=True)
class Folders:
    """Where the data lie: folders of sequences and of still images; `names` None takes all sequences, or a split.

    `photos` and `cutouts` are what simulated scenes are made of, if a recipe asks for simulation; nothing else.
    """

    sequences: tuple[Path, ...] = ()
    stills: tuple[Path, ...] = ()
    names: tuple[str, ...] | None = None
    photos: tuple[Path, ...] = ()
    cutouts: tuple[Path, ...] = ()


def read_names(path: Path, section: str = "") -> tuple[str, ...]:
    """Sequence names, one a line; `#` begins a remark.

    With `section` only those below the line `[section]` count, up to the next such line.

    Raises:
        InputError: no such file or section, no text, or no name in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no list of names; give a text file with one sequence a line") from error
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    sections: dict[str, list[str]] = {"": []}
    current = ""
    for line in filter(None, lines):
        if line.startswith("[") and line.endswith("]"):
            current = line[1:-1].strip()
            sections.setdefault(current, [])
        else:
            sections[current].append(line)
    if section not in sections or not sections[section]:
        known = [name for name, names in sections.items() if names]
        wanted = f"section [{section}]" if section else "names before its first section"
        raise InputError(f"{path} has no {wanted}{nearest(section, known)}; write --names {path.name}:SECTION")
    return tuple(sections[section])


def open_training(folders: Folders, settings: DataSettings) -> list[Source]:
    """Everything that a recipe trains on: its folders, and simulation.

    Raises:
        InputError: as `open_folders`; pictures for a simulation that is off; simulated frames that are not thermal.
    """
    sources = open_folders(folders, settings, settings.split)
    simulation = settings.simulation
    if simulation.ratio == 0:
        if folders.photos or folders.cutouts:
            raise InputError(
                "--photos and --cutouts are for simulation, which is off; --set data.simulation.ratio=1 turns it on"
            )
        return sources
    if settings.kind != "thermal":
        raise InputError(
            f"data.simulation renders thermal frames, data.modality is {settings.kind}; --set data.simulation.ratio=0"
        )
    canvas = canvas_for(simulation.scenes)
    pool = load_pool(folders.photos, folders.cutouts, canvas=canvas, memory=simulation.memory)
    given = ", ".join(str(folder) for folder in (*folders.photos, *folders.cutouts))
    simulated = Simulated(pool, simulation)
    return [*sources, Source(f"simulation ({given or 'drawn'})", [], simulation.ratio, "simulation", simulated)]


def warn_of_drawn(sources: list[Source]) -> None:
    """Say how many of the pairs will be simulated without a photograph; a model learns little from drawn pictures."""
    bare = [source for source in sources if source.simulated and not source.simulated.pool.photos]
    if bare:
        share = sum(source.ratio for source in bare) / sum(source.ratio for source in sources)
        objects = any(source.simulated.pool.counts["cutouts"] for source in bare if source.simulated)
        log.warning(
            "%.0f%% of the pairs will be simulated %s, for there are no --photos; give --photos and --cutouts, "
            "or train on --data alone with --set data.simulation.ratio=0",
            100 * share,
            "on drawn backgrounds" if objects else "from drawn pictures",
        )


def open_folders(folders: Folders, settings: DataSettings, split: str | None) -> list[Source]:
    """Open every folder as a source of pairs.

    Raises:
        InputError: a folder or a sequence that is not there, a list of names that fits no folder, or a modality that
            the layout or the stills do not have.
    """
    layout = _layout(settings)
    names: Iterable[str] | None = folders.names
    if names is None and split is not None:
        if settings.layout != "lasher":
            raise InputError(f"data.split {split!r} is a list of LasHeR sequences, the layout is {settings.layout!r}")
        names = lasher_names(split)  # type: ignore[arg-type]
        if folders.sequences and not any((root / name).is_dir() for root in folders.sequences for name in names):
            raise InputError(
                f"{', '.join(map(str, folders.sequences))} holds none of LasHeR's {split} list that the recipe takes; "
                "for sequences of your own --set data.split=null --set data.validation_split=null"
            )
    if settings.kind != "thermal" and settings.synthesis.probability > 0:
        raise InputError(
            f"data.synthesis makes up thermal partners, data.modality is {settings.kind}; "
            "--set data.synthesis.probability=0"
        )
    sources = []
    for root in folders.sequences:
        here = _in(root, layout.prefix, names, len(folders.sequences))
        opened = open_layout(root, layout, names=here, depth_colours=settings.depth_colours)
        sources.append(Source(str(root), opened))
    stills = [Source(str(r), open_stills(r), ratio=settings.stills_ratio, kind="stills") for r in folders.stills]
    if settings.kind != "thermal" and any(still.aux is not None for each in stills for still in each.sequences):
        raise InputError(f"stills in infrared/ folders are thermal, data.modality is {settings.kind}; leave them out")
    return sources + stills


def _layout(settings: DataSettings) -> Layout:
    layout = layout_named(settings.layout)
    if settings.modality in (None, layout.kind):
        return layout
    if settings.layout != "lasher":
        raise InputError(
            f"data.modality is {settings.modality}, but the layout {settings.layout} is RGB and {layout.kind}; "
            "leave data.modality out, or take the layout lasher for folders of your own"
        )
    assert settings.modality is not None  # the first case above
    return own_layout(settings.modality)


def _in(root: Path, prefix: str, names: Iterable[str] | None, roots: int) -> Iterable[str] | None:
    # one list may be spread over several folders; with a single folder a missing name is an error that says so
    if names is None or roots == 1:
        return names
    here = [name for name in names if (root / prefix / name).is_dir()]
    if not here:
        raise InputError(f"{root}: holds none of the sequences that were named")
    return here


def hold_out(sources: list[Source], every: int) -> tuple[list[Source], list[Source]]:
    """Split sources into those to train on and held-out ones; stills and simulation are trained on.

    Args:
        sources: as `open_folders` gives them.
        every: the last of each `every` sequences of a folder is held out.

    Raises:
        InputError: a folder has fewer sequences than that.
    """
    train, held = [], []
    for source in sources:
        if source.kind != "video":
            train.append(source)
            continue
        if len(source.sequences) < every:
            raise InputError(
                f"{source.name} has {len(source.sequences)} sequences, too few to hold out one of each {every}; "
                "--set data.hold_out_every=null, or give held-out data with --val"
            )
        rest = [sequence for i, sequence in enumerate(source.sequences) if (i + 1) % every]
        train.append(replace(source, sequences=rest))
        held.append(replace(source, sequences=source.sequences[every - 1 :: every]))
    if not held:
        raise InputError("data.hold_out_every: there are no sequences to hold out; give held-out data with --val")
    return train, held


def training_pairs(
    sources: list[Source],
    settings: DataSettings,
    geometry: Geometry,
    seed: int,
    *,
    caches: tuple[FrameCache, ...] = (),
) -> PairDataset:
    """Pairs as the recipe wants them; in caches (`duotrack fuse --cache-as`) the layout names the dataset."""
    return PairDataset(
        sources,
        geometry=geometry,
        seed=seed,
        sampling=settings.sampling,
        jitter=settings.jitter,
        augmentation=settings.augmentation,
        synthesis=settings.synthesis,
        caches=caches,
        cached_as=settings.layout,
    )


def validation_pairs(sources: list[Source], settings: DataSettings, geometry: Geometry, seed: int) -> PairDataset:
    """Held-out pairs: jitter, grey and flip as in training, no other change of the picture (docs/specs/ckd.md, 3.2)."""
    kept = {name: getattr(settings.augmentation, name) for name in ("grey", "grey_aux", "flip")}
    plain = Augmentation(**kept, brightness=0, crop_flip=0)
    return PairDataset(
        sources,
        geometry=geometry,
        seed=seed + 1,
        sampling=settings.sampling.model_copy(update={"centred": False}),
        jitter=settings.jitter,
        augmentation=plain,
    )


def describe(sources: list[Source]) -> dict[str, Any]:
    """What the run folder keeps of the data: folders, counts, one fingerprint over all of them in order."""
    sequences: list[Sequence] = [sequence for source in sources for sequence in source.sequences]
    parts = "".join(
        f"{source.kind} {source.ratio} {fingerprint(source.sequences)}"
        + (f" {source.simulated.pool.fingerprint}\n" if source.simulated else "\n")
        for source in sources
    )
    pools = [source.simulated.pool for source in sources if source.simulated]
    return {
        "folders": [source.name for source in sources],
        "sequences": len(sequences),
        "frames": sum(len(sequence) for sequence in sequences),
        "both_modalities": sum(s.rgb is not None and s.aux is not None for s in sequences),
        "simulated_from": [pool.counts for pool in pools],
        "fingerprint": hashlib.sha256(parts.encode()).hexdigest(),
    }
