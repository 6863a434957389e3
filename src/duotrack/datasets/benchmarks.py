"""The benchmarks, one declaration each: where frames and ground truth lie, and what is peculiar.

Sources: docs/specs/evaluation.md, sections 2 and 4; docs/specs/ckd.md, section 4. Reading them is the work of
`duotrack.datasets.layouts` (frames) and `duotrack.datasets.ground_truth` (boxes alone).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from duotrack.datasets.layouts import (
    DEPTHTRACK,
    GTOT,
    LASHER,
    RGBD1K,
    VISEVENT,
    Layout,
    open_layout,
    own_layout,
    packaged_lines,
)
from duotrack.datasets.sequence import Sequence
from duotrack.depth import Colours
from duotrack.errors import InputError, nearest
from duotrack.frames import Kind


@dataclass(frozen=True)
class Labels:
    """A ground-truth file of every sequence: where it may lie, relative to the root, and how its rows read.

    `{name}` is the sequence, `{path}` its line in the split list, which may hold a folder before the name. `corners`:
    rows are two opposite corners in any order instead of x, y, w, h.
    """

    places: tuple[str, ...]
    corners: bool = False


@dataclass(frozen=True)
class AbsentLabels:
    """Files of one 0 or 1 a frame, and which of the two means that the target is absent."""

    places: tuple[str, ...]
    absent: int


@dataclass(frozen=True)
class Benchmark:
    """What is to know about one benchmark.

    Attributes:
        name: as the command line takes it.
        title: as papers write it; also the top folder of a text-only archive.
        layout: where the frames of a sequence lie, and what the auxiliary ones show.
        labels: one ground truth, or one a modality (visible first) where the target was annotated in both.
        split: the packaged list of sequences; empty where a copy's own folders say it.
        lists: files of a copy that name its sequences; they win over `split`.
        absent: files of absence flags, the first kind that is there counts; empty where boxes tell absence.
        attributes: the packaged table of attributes, or empty.
        sequences, frames: how many there are, as published; None where not known.
        protocols: the presets that it has, its own first.
        quirks: what surprises, in words; `duotrack data check` says it.
        base: of a benchmark that takes modalities away by a mask, the one whose frames, boxes and rules it has.
    """

    name: str
    title: str
    layout: Layout
    labels: tuple[Labels, ...]
    split: str = ""
    lists: tuple[str, ...] = ()
    absent: tuple[AbsentLabels, ...] = ()
    attributes: str = ""
    sequences: int | None = None
    frames: int | None = None
    protocols: tuple[str, ...] = ("toolkit", "matlab", "plain")
    quirks: tuple[str, ...] = ()
    base: str = ""

    @property
    def complete(self) -> "Benchmark":
        """The benchmark with every modality: itself, or its base."""
        return BENCHMARKS[self.base] if self.base else self

    @property
    def modality(self) -> Kind:
        """What the auxiliary frames show."""
        return self.layout.kind

    @cached_property
    def paths(self) -> dict[str, str]:
        """Sequence name -> its line in the split list; empty where there is no list."""
        return {line.rpartition("/")[2]: line for line in packaged_lines(f"{self.split}.txt")} if self.split else {}

    @cached_property
    def attribute_table(self) -> dict[str, frozenset[str]]:
        """Attribute -> the sequences that have it, in the benchmark's own order of attributes."""
        lines = packaged_lines(f"{self.attributes}.txt") if self.attributes else []
        return {key: frozenset(names) for key, *names in map(str.split, lines)}


_LASHER_QUIRKS = (
    "a frame whose ground truth has a value <= 0 counts as absent: a hit for PR and NPR, a miss for SR",
    "some names hold a back-quote or an apostrophe",
)
_VTUAV_QUIRKS = (
    "annotated every ten frames: results of every frame are compared on those only",
    "rules unverified: the official tools could not be read; thresholds as in RGBT234",
)


def _vtuav(short: str, folder: str) -> tuple[Layout, tuple[Labels, ...]]:
    tops = ("", f"test_{short}/test_{short}/", f"test_{short}/", f"test/{folder}/", f"{folder}/")
    places = tuple(top + inner for top in tops for inner in ("{path}", "{name}"))
    layout = Layout(rgb="rgb", aux="ir", boxes="rgb.txt", every=10, places=places)
    return layout, tuple(Labels(tuple(f"{place}/{file}" for place in places)) for file in ("rgb.txt", "ir.txt"))


_ST, _LT = _vtuav("ST", "short-term"), _vtuav("LT", "long-term")

_ALL = (
    Benchmark(
        name="gtot",
        title="GTOT",
        layout=GTOT,
        labels=tuple(
            Labels((f"{{name}}/groundTruth_{side}.txt", f"groundtruth/{{name}}/groundTruth_{side}.txt"), corners=True)
            for side in "vi"
        ),
        split="gtot",
        lists=("SequencesName.txt",),
        attributes="gtot_attributes",
        sequences=50,
        frames=7850,
        quirks=("precise means under 5 px, strictly; rates are pooled over frames",),
    ),
    Benchmark(
        name="rgbt210",
        title="RGBT210",
        layout=LASHER,
        labels=(Labels(("{name}/init.txt", "groundtruth/{name}/init.txt")),),
        split="rgbt210",
        lists=("SequencesName.txt",),
        attributes="rgbt234_attributes",
        sequences=210,
        frames=104_706,
        quirks=("the first frame of a result counts as the ground truth",),
    ),
    Benchmark(
        name="rgbt234",
        title="RGBT234",
        layout=LASHER,
        labels=tuple(
            Labels((f"{{name}}/{side}.txt", f"rgbt234_gt/{{name}}/{side}.txt")) for side in ("visible", "infrared")
        ),
        split="rgbt234",
        lists=("SequencesName.txt",),
        attributes="rgbt234_attributes",
        sequences=234,
        frames=116_650,
        quirks=("scored against both annotations, the better one a frame",),
    ),
    Benchmark(
        name="lasher",
        title="LasHeR",
        layout=Layout(places=("{name}", "testingset/{name}", "TestingSet/{name}")),
        labels=(Labels(("{name}/init.txt", "lasher_gt/{name}.txt", "testingset/{name}/init.txt")),),
        split="lasher_test",
        lists=("testingsetList.txt",),
        attributes="lasher_test_attributes",
        sequences=245,
        frames=220_703,
        quirks=_LASHER_QUIRKS,
    ),
    Benchmark(
        name="lasher-train",
        title="LasHeR",
        layout=Layout(places=("{name}", "trainingset/{name}", "TrainingSet/{name}")),
        labels=(Labels(("{name}/init.txt", "lasher_gt/{name}.txt", "trainingset/{name}/init.txt")),),
        split="lasher_train",
        lists=("trainingsetList.txt",),
        sequences=979,
        quirks=_LASHER_QUIRKS,
    ),
    Benchmark(
        name="vtuav-st",
        title="VTUAV",
        layout=_ST[0],
        labels=_ST[1],
        split="vtuav_st_test",
        lists=("VTUAV-ST.txt",),
        sequences=176,
        protocols=("plain", "matlab"),
        quirks=_VTUAV_QUIRKS,
    ),
    Benchmark(
        name="vtuav-lt",
        title="VTUAV",
        layout=_LT[0],
        labels=_LT[1],
        split="vtuav_lt_test",
        lists=("VTUAV-LT.txt",),
        sequences=74,
        protocols=("plain", "matlab"),
        quirks=_VTUAV_QUIRKS,
    ),
    Benchmark(
        name="visevent",
        title="VisEvent",
        layout=VISEVENT,
        labels=(Labels(("gt_rect/{name}.txt", "{name}/groundtruth.txt", "test/{name}/groundtruth.txt")),),
        # two sources of the flags with opposite meaning: the evaluation tool's files and those of the data set
        absent=(
            AbsentLabels(("absent/{name}.txt",), absent=1),
            AbsentLabels(("{name}/absent_label.txt", "test/{name}/absent_label.txt"), absent=0),
        ),
        split="visevent_test",
        lists=("testlist.txt",),
        attributes="visevent_test_attributes",
        sequences=320,
        frames=157_395,
        protocols=("matlab", "plain"),
        quirks=(
            "absent frames count as misses in PR and SR: the best possible value is the share of present frames",
            "attribute files hold no names: A01 to A17 are their columns",
        ),
    ),
    Benchmark(
        name="depthtrack",
        title="DepthTrack",
        layout=DEPTHTRACK,
        labels=(Labels(("{name}/groundtruth.txt", "test/{name}/groundtruth.txt", "Test/{name}/groundtruth.txt")),),
        split="depthtrack_test",
        lists=("list.txt",),
        sequences=50,
        protocols=("plain",),
        quirks=("scored by precision, recall and F over the tracker's confidences; nan rows: target absent",),
    ),
    Benchmark(
        name="rgbd1k",
        title="RGBD1K",
        layout=RGBD1K,
        labels=(Labels(("{name}/groundtruth.txt", "test/{name}/groundtruth.txt")),),
        lists=("list.txt",),
        protocols=("plain",),
        quirks=("scored by precision, recall and F over the tracker's confidences; nan rows: target absent",),
    ),
    Benchmark(
        name="folder",
        title="folder",
        layout=LASHER,
        labels=(Labels(("{name}/init.txt", "{name}/groundtruth.txt", "{name}.txt")),),
        protocols=("plain", "toolkit"),
        quirks=("any folder of sequences; frames without a box of positive size are not compared",),
    ),
)
_MISS = (
    ("rgbt234", "rgbt234-miss", "RGBT234-Miss"),
    ("lasher", "lasher245-miss", "LasHeR245-Miss"),
    ("vtuav-st", "vtuav176-miss", "VTUAV176-Miss"),
)
"""Base, name and title of the modality-missing benchmarks (docs/specs/ipl.md, section 8)."""
_LOSES = "modalities are missing by a mask for every frame (--mask); all frames count, those without any image too"


def _missing(base: Benchmark, name: str, title: str) -> Benchmark:
    return replace(base, name=name, title=title, base=base.name, quirks=(*base.quirks, _LOSES))


BENCHMARKS: dict[str, Benchmark] = {each.name: each for each in _ALL}
BENCHMARKS |= {name: _missing(BENCHMARKS[base], name, title) for base, name, title in _MISS}


def benchmark(name: str) -> Benchmark:
    """The benchmark of that name, in any case.

    Raises:
        InputError: there is none; names the nearest.
    """
    found = BENCHMARKS.get(name.lower())
    if found is None:
        raise InputError(f"benchmark {name!r} is not known{nearest(name.lower(), list(BENCHMARKS))}")
    return found


def with_mask(which: Benchmark) -> Benchmark:
    """The modality-missing benchmark that `which` becomes under a mask; itself where none is published."""
    return next((each for each in BENCHMARKS.values() if each.base == which.name), which)


def showing(which: Benchmark, kind: Kind | None) -> Benchmark:
    """The benchmark, where its auxiliary frames show `kind` or `kind` is None; a folder of one's own may show any.

    Raises:
        InputError: they show something else.
    """
    if kind is None or kind == which.modality:
        return which
    if which.name == "folder":
        return replace(which, layout=own_layout(kind))
    raise InputError(f"{which.title} is RGB and {which.modality}, not {kind}; leave --modality out")


def open_benchmark(
    which: Benchmark, root: str | Path, *, names: Iterable[str] | None = None, depth_colours: Colours = "bgr"
) -> list[Sequence]:
    """The sequences of a copy of the benchmark with their frames, in the order of its list.

    Args:
        which: the benchmark.
        root: the copy.
        names: the sequences to take; None for all.
        depth_colours: how depth is rendered.

    Raises:
        InputError: as `open_layout`; a name that is not in the benchmark's list.
    """
    if names is None:
        return open_layout(root, which.layout, names=which.paths.values() or None, depth_colours=depth_colours)
    wanted = list(names)
    unknown = [name for name in wanted if which.paths and name not in which.paths]
    if unknown:
        raise InputError(f"{which.name} has no sequence {unknown[0]!r}{nearest(unknown[0], list(which.paths))}")
    paths = [which.paths.get(name, name) for name in wanted]
    return open_layout(root, which.layout, names=paths, depth_colours=depth_colours)
