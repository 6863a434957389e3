"""What is said beside the numbers of a report: the benchmark, by which protocol, over which sequences."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from duotrack.datasets.benchmarks import BENCHMARKS

if TYPE_CHECKING:
    from duotrack.evaluation.metrics import Score

PUBLISHED_MASKS = (
    "Published numbers were made on masks of the benchmark's authors: they compare with results on those, not with "
    "results on masks drawn here."
)


def benchmark_title(name: str) -> str:
    """A benchmark as papers write it."""
    return BENCHMARKS[name].title if name in BENCHMARKS else name


def protocols(scores: Sequence["Score"]) -> str:
    """The protocol of the scores in a sentence; each with its trackers where there is more than one."""
    by_protocol: dict[str, list[str]] = {}
    for score in scores:
        by_protocol.setdefault(score.protocol, []).append(score.tracker)
    if len(by_protocol) == 1:
        return f"Protocol: {next(iter(by_protocol))}."
    return " ".join(f"Protocol of {', '.join(names)}: {protocol}." for protocol, names in by_protocol.items())


def names(score: "Score") -> dict[str, str]:
    """PR, NPR and SR as the protocol calls them: MPR and MSR where of two annotations the better one counts."""
    m = "M" if ": MPR" in score.protocol else ""
    return {"PR": f"{m}PR", "NPR": "NPR", "SR": f"{m}SR"}


def summary(score: "Score") -> str:
    """One line: the tracker, its rates in percent (a dash where nothing was compared), and their protocols."""
    rates = {title: value for key, title in names(score).items() if (value := getattr(score, key)) is not None}
    protocols = [score.protocol]
    if score.longterm is not None:
        long = score.longterm
        rates = {"Pr": long.precision, "Re": long.recall, "F": long.F} | rates
        protocols.append(long.describe())
    said = ", ".join(f"{title} {'-' if math.isnan(value) else f'{100 * value:.1f}'}" for title, value in rates.items())
    on = f" on {share(score)}" if partial(score) else ""
    return f"{score.tracker}: {said}{on} ({'; '.join(protocols)})"


def longterm_protocol(scores: Sequence["Score"]) -> str:
    """How the long-term measures were formed, and who has none; "" where nobody has."""
    said: dict[str, list[str]] = {}
    for score in scores:
        words = "no confidences, so neither Pr, Re nor F" if score.longterm is None else score.longterm.describe()
        said.setdefault(words, []).append(score.tracker)
    if all(score.longterm is None for score in scores):
        return ""
    if len(said) == 1:
        return f"Protocol, {next(iter(said))}."
    return " ".join(f"{', '.join(names)}: {words}." for words, names in said.items())


def share(score: "Score") -> str:
    """How many of the ground truth's sequences a tracker was scored on: "2 of 3 sequences"."""
    return f"{score.sequences} of {score.sequences + score.counts.get('missing', 0)} sequences"


def partial(score: "Score") -> bool:
    """Whether the tracker has no result for some sequences, which were left out."""
    return score.counts.get("missing", 0) > 0


def coverage(scores: Sequence["Score"]) -> str:
    """Who was scored on which part of the ground truth, and whether that compares; "" where all have all of it."""
    if not any(partial(score) for score in scores):
        return ""
    if len({frozenset(score.per_sequence) for score in scores}) == 1:
        return f"Scored on {share(scores[0])} of the ground truth."
    by_share: dict[str, list[str]] = {}
    for score in scores:
        by_share.setdefault(share(score), []).append(score.tracker)
    shares = "; ".join(f"{', '.join(names)}: {words}" for words, names in by_share.items())
    return f"Not scored on the same sequences, so the rates do not compare directly. {shares}."


def stated(scores: Sequence["Score"]) -> str:
    """What belongs beside every rate: the protocol, and the sequences where some were left out."""
    return f"{protocols(scores)} {coverage(scores)}".strip()
