"""From folders on the command line to training pairs."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from duotrack.datasets.fingerprint import fingerprint
from duotrack.datasets.layouts import GTOT, LASHER, lasher_names, open_layout, vtuav_train_layout
from duotrack.datasets.sequence import Sequence
from duotrack.datasets.stills import open_stills
from duotrack.errors import InputError, nearest
from duotrack.fusion.cache import FrameCache
from duotrack.models.zoo import Geometry
from duotrack.training.augmentation import Augmentation, Jitter
from duotrack.training.pairs import PairDataset, Source
from duotrack.training.sampling import Sampling
from duotrack.training.settings import Settings
from duotrack.training.synthesis import Synthesis


class DataSettings(Settings):
    """How folders are read and pairs are drawn; the folders themselves come from the command line."""

    layout: Literal["lasher", "gtot", "vtuav-train"] = Field(
        default="lasher", description="where a sequence keeps frames and boxes; your own folders: like LasHeR"
    )
    split: Literal["train", "test", "all"] | None = Field(
        default=None,
        description="published LasHeR list to train on; null = --names, or every sequence",
    )
    validation_split: Literal["train", "test", "all"] | None = Field(default=None, description="as split, for --val")
    stills_ratio: float = Field(
        default=1.0, gt=0, description="pairs from --stills for each pair from one --data folder"
    )
    sampling: Sampling = Field(default_factory=Sampling, description="which two frames make a pair")
    jitter: Jitter = Field(default_factory=Jitter, description="how far the search crop strays from the target")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="light, mirroring, damage")
    synthesis: Synthesis = Field(default_factory=Synthesis, description="made-up partners of single modalities")


@dataclass(frozen=True)
class Folders:
    """Where the data lie: folders of sequences and of still images; `names` None takes all sequences, or a split."""

    sequences: tuple[Path, ...] = ()
    stills: tuple[Path, ...] = ()
    names: tuple[str, ...] | None = None


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


def open_folders(folders: Folders, settings: DataSettings, split: str | None) -> list[Source]:
    """Open every folder as a source of pairs.

    Raises:
        InputError: a folder or a sequence that is not there, or a list of names that fits no folder.
    """
    layout = {"lasher": LASHER, "gtot": GTOT}.get(settings.layout) or vtuav_train_layout()
    names: Iterable[str] | None = folders.names
    if names is None and split is not None:
        if settings.layout != "lasher":
            raise InputError(f"data.split {split!r} is a list of LasHeR sequences, the layout is {settings.layout!r}")
        names = lasher_names(split)  # type: ignore[arg-type]
        if not any((root / name).is_dir() for root in folders.sequences for name in names):
            raise InputError(
                f"{', '.join(map(str, folders.sequences))} holds none of LasHeR's {split} list that the recipe takes; "
                "for sequences of your own --set data.split=null --set data.validation_split=null"
            )
    sources = [
        Source(str(root), open_layout(root, layout, names=_in(root, layout.prefix, names, len(folders.sequences))))
        for root in folders.sequences
    ]
    return sources + [
        Source(str(r), open_stills(r), ratio=settings.stills_ratio, kind="stills") for r in folders.stills
    ]


def _in(root: Path, prefix: str, names: Iterable[str] | None, roots: int) -> Iterable[str] | None:
    # one list may be spread over several folders; with a single folder a missing name is an error that says so
    if names is None or roots == 1:
        return names
    here = [name for name in names if (root / prefix / name).is_dir()]
    if not here:
        raise InputError(f"{root}: holds none of the sequences that were named")
    return here


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
    plain = Augmentation(grey=settings.augmentation.grey, flip=settings.augmentation.flip, brightness=0, crop_flip=0)
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
    parts = "".join(f"{source.kind} {source.ratio} {fingerprint(source.sequences)}\n" for source in sources)
    return {
        "folders": [source.name for source in sources],
        "sequences": len(sequences),
        "frames": sum(len(sequence) for sequence in sequences),
        "both_modalities": sum(s.rgb is not None and s.aux is not None for s in sequences),
        "fingerprint": hashlib.sha256(parts.encode()).hexdigest(),
    }
