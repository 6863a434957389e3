"""How far apart the features of two modalities are inside a network (docs/specs/tpf.md, section 8).

CKD's paper shows it as clouds of features before and after instance normalisation (figure 2) and as maps (figure 6),
TPF's as MMD by layer (figure 1). Which frames, tokens and kernel they take is not said, so these are ours,
and only values measured alike compare. Instance normalisation over a frame's tokens leaves content, without style.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from duotrack.datasets.sequence import Sequence
from duotrack.errors import InputError
from duotrack.evaluation.gap_sampling import Sampling, Seen, look, rows_of
from duotrack.evaluation.mmd import mmd2
from duotrack.evaluation.streams import read_streams
from duotrack.models.attention import instance_norm
from duotrack.models.statistics import denormalise
from duotrack.models.zoo import Geometry

log = logging.getLogger(__name__)

POINTS = 600
"""Tokens of each stream in the plots of distributions."""
LEAST_POINTS = 8
"""Of each sequence, before they are drawn from all."""
EXAMPLES = 4
"""Frames of which maps are drawn, one a sequence."""
KINDS = ("features", "content")


@dataclass(frozen=True, eq=False)
class Example:
    """One frame: `images` name -> (S, S, 3) in [0, 1]; `features` stream -> (n, n, C), the layer's search tokens."""

    sequence: str
    frame: int
    images: Mapping[str, NDArray[np.float32]]
    features: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Gap:
    """What was measured.

    `values`: (stream, stream) -> kind -> (sequences, layers) squared MMD; kind "content" is missing where tokens were
    averaged, because their mean after normalisation is 0. `points`: kind -> stream -> (P, C) tokens of `layer`.
    """

    sequences: tuple[str, ...]
    layer: int
    values: Mapping[tuple[str, str], Mapping[str, NDArray[np.float64]]]
    points: Mapping[str, Mapping[str, Tensor]]
    examples: tuple[Example, ...]

    @property
    def layers(self) -> int:
        """How many layers, the embedding included."""
        return next(iter(next(iter(self.values.values())).values())).shape[1]


def measure_gap(
    net: nn.Module,
    geometry: Geometry,
    sequences: Collection[Sequence],
    sampling: Sampling,
    *,
    device: torch.device,
    watch: Callable[[Sequence], None] = lambda sequence: None,
) -> Gap:
    """Measure every sequence that has both modalities, cut around the truth; equal sampling looks at equal frames.

    The choice depends on the seed and on the sequence's name alone, so neither the order nor the company matters.

    Raises:
        InputError: no sequence can be used, the network cannot be read, or it has no such layer.
    """
    values: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    points: dict[str, dict[str, list[Tensor]]] = {kind: {} for kind in KINDS}
    names: list[str] = []
    examples: list[Example] = []
    stride, quota = 1, max(LEAST_POINTS, -(-POINTS // max(len(sequences), 1)))
    skipped: list[str] = []
    layer = 0
    for sequence in sequences:
        rng = np.random.default_rng([sampling.seed, *sequence.name.encode()])
        seen = look(sequence, geometry, sampling.frames, rng, device)
        watch(sequence)
        if seen is None:
            skipped.append(sequence.name)
            continue
        streams, fused = read_streams(net, seen.template, seen.search)
        layer = _layer(sampling.layer, len(next(iter(streams.values()))))
        for kind, tokens in _kinds(streams, sampling.tokens).items():
            rows = {name: rows_of(each, sampling.tokens, rng) for name, each in tokens.items()}
            for pair in combinations(rows, 2):
                found = [mmd2(x, y) for x, y in zip(rows[pair[0]], rows[pair[1]], strict=True)]
                values.setdefault(pair, {}).setdefault(kind, []).append(found)
            for name, each in rows.items():
                points[kind].setdefault(name, []).append(_some(each[layer].cpu(), quota, rng))
        if len(names) % stride == 0:  # spread over all sequences, however many there will be
            examples.append(_example(sequence.name, seen, streams, fused, layer))
        names.append(sequence.name)
        if len(examples) == 8 * EXAMPLES:
            examples, stride = examples[::2], 2 * stride
    if skipped:
        log.warning(
            "%d sequences have no two usable frames with both modalities and are left out: %s%s",
            len(skipped),
            ", ".join(skipped[:3]),
            ", ..." if len(skipped) > 3 else "",
        )
    if not names:
        raise InputError(
            "no sequence has two frames with both modalities and a visible target: a gap is between modalities; "
            "check --root with `duotrack data check`"
        )
    spread = np.linspace(0, len(examples) - 1, min(EXAMPLES, len(examples))).round().astype(int)
    draw = np.random.default_rng(sampling.seed)
    return Gap(
        sequences=tuple(names),
        layer=layer,
        values={pair: {kind: np.array(rows) for kind, rows in kinds.items()} for pair, kinds in values.items()},
        points={
            kind: {name: _some(torch.cat(parts), POINTS, draw) for name, parts in streams.items()}
            for kind, streams in points.items()
            if streams
        },
        examples=tuple(examples[i] for i in spread.tolist()),
    )


def salience(features: Tensor) -> Tensor:
    """(n, n, C) search tokens -> (n, n): length of each token's content, that is after instance normalisation."""
    return _content(features).norm(dim=-1)


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """(n, n, C) twice -> (n, n): cosine of the content of both in every place, -1 to 1."""
    return torch.nn.functional.cosine_similarity(_content(one), _content(other), dim=-1)


def summary(gap: Gap, sampling: Sampling) -> dict[str, object]:
    """The numbers as JSON holds them: by pair of streams and kind, mean over sequences by layer, and every value."""
    pairs = {}
    for pair, kinds in gap.values.items():
        pairs["-".join(pair)] = {
            kind: {
                "mean": rows.mean(axis=0).tolist(),
                "standard_error": ((rows.std(axis=0, ddof=1) / np.sqrt(len(rows))).tolist() if len(rows) > 1 else None),
                "sequences": rows.tolist(),
            }
            for kind, rows in kinds.items()
        }
    return {
        "measure": "unbiased squared MMD, mean of Gaussian kernels, layer 0 is the embedding",
        "sampling": asdict(sampling),
        "layer": gap.layer,
        "layers": gap.layers,
        "sequences": list(gap.sequences),
        "pairs": pairs,
    }


def _layer(asked: int, layers: int) -> int:
    if not -layers <= asked < layers:
        raise InputError(f"layer {asked}: the network has layers 0 (embedding) to {layers - 1}, or -1 for the last")
    return asked % layers


def _kinds(streams: Mapping[str, Tensor], tokens: int) -> dict[str, dict[str, Tensor]]:
    kinds = {"features": dict(streams)}
    if tokens:
        kinds["content"] = {name: instance_norm(each) for name, each in streams.items()}
    return kinds


def _some(rows: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    return rows[torch.from_numpy(np.sort(rng.permutation(len(rows))[:count]))]


def _example(name: str, seen: Seen, streams: Mapping[str, Tensor], fused: Tensor | None, layer: int) -> Example:
    side = int(next(iter(streams.values())).shape[2] ** 0.5)
    shown = dict(zip(("rgb", "aux"), seen.search, strict=True)) | ({} if fused is None else {"fused": fused})
    return Example(
        sequence=name,
        frame=seen.frames[0],
        images={
            key: denormalise(image[:1].float())[0].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            for key, image in shown.items()
        },
        features={key: each[layer, 0].view(side, side, -1).cpu() for key, each in streams.items()},
    )


def _content(features: Tensor) -> Tensor:
    return instance_norm(features.flatten(0, 1)).view_as(features)
