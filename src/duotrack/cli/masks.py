"""Options and words for masks of missing modalities, shared by the commands that take one."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duotrack.errors import InputError

if TYPE_CHECKING:
    from duotrack.datasets.benchmarks import Benchmark
    from duotrack.datasets.ground_truth import GroundTruth
    from duotrack.datasets.masked import Masked
    from duotrack.evaluation.results import Results

MaskFile = Annotated[Path | None, typer.Option("--mask", help="missing_results JSON: which images are missing.")]
Subgroups = Annotated[
    Path | None,
    typer.Option(help="subgroups_data JSON, for rates by pattern and ratio; default: the one beside the mask."),
]


def given_mask(mask: Path | None, subgroups: Path | None) -> "Masked | None":
    """What the two options say.

    Raises:
        InputError: subgroups alone, or as `open_masked`.
    """
    from duotrack.datasets.masked import open_masked

    if mask is None:
        if subgroups is not None:
            raise InputError("--subgroups says what masks lose: give the masks as well, with --mask")
        return None
    return open_masked(mask, subgroups)


def known_names(which: "Benchmark", truths: "list[GroundTruth]") -> list[str]:
    """Every sequence that a mask may be of."""
    return list(which.paths) or [truth.name for truth in truths]


def check_made(masked: "Masked | None", results: "Results") -> None:
    """Refuse results that a run of duotrack made without these masks; of others nobody knows.

    Raises:
        InputError: as above.
    """
    if masked is None or results.mask in (None, masked.digest):
        return
    made = "without masks" if results.mask == "none" else f"under other masks ({results.mask[:12]})"
    raise InputError(
        f"{results.tracker}: its run was made {made}, not under {masked.path} ({masked.digest[:12]}); "
        "give the masks of the run with --mask"
    )


def facts(masked: "Masked", names: Collection[str]) -> dict[str, Any]:
    """Which masks, and how many frames of the sequences `names` had which modalities."""
    from duotrack.datasets.masked import availability

    frames = availability(masked.masks[name] for name in names)
    return {"file": str(masked.path), "sha256": masked.digest, "frames": frames}


def words(masked: "Masked", names: Collection[str]) -> str:
    """The same in a line."""
    found = facts(masked, names)
    total = sum(found["frames"].values())
    shares = ", ".join(f"{key.replace('_', ' ')} {count / total:.1%}" for key, count in found["frames"].items())
    unknown = (
        "" if masked.losses else "; no subgroups_data file beside it: patterns and ratios are not known (--subgroups)"
    )
    return f"mask {masked.path.name} ({masked.digest[:12]}): {shares}{unknown}"
