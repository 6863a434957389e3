"""A measured gap as files: numbers that later runs can be laid beside, and figures."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duotrack.datasets.sequence import Sequence as Frames
from duotrack.errors import InputError
from duotrack.evaluation.figures import require_matplotlib
from duotrack.evaluation.gap import Gap, measure_gap, summary
from duotrack.evaluation.gap_plots import NAMES, Curve, Embedding, cloud_plot, layer_plot, map_plot, require_embedding
from duotrack.evaluation.gap_sampling import Sampling
from duotrack.evaluation.run import check_weights
from duotrack.files import atomic_path, write_text
from duotrack.models.zoo import model_spec
from duotrack.runtime.torch_backend import prepare, resolve_device
from duotrack.weights.build import build_net

_MOST_BYTES = 64 * 2**20
"""Of a report that is read."""
_MOST_LAYERS = 1024
_METHODS = {"pca": "PCA", "tsne": "t-SNE"}
Means = dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64] | None]]
"""(streams with a hyphen between, kind) -> mean of each layer over sequences, and its standard error."""


@dataclass(frozen=True, eq=False)
class Report:
    """`numbers` as they go into gap.json; `gaps`: the network and, where there is one, the base, by their labels."""

    numbers: dict[str, Any]
    gaps: Mapping[str, Gap]
    embedding: Embedding

    def lines(self) -> list[str]:
        """The last layer's gap in words."""
        rows = []
        for label, gap in self.gaps.items():
            for pair, kinds in gap.values.items():
                means = ", ".join(f"{kind} {values[:, -1].mean():.4f}" for kind, values in kinds.items())
                rows.append(f"{label}: squared MMD of {pair[0]} and {pair[1]} in the last layer: {means}")
        return [*rows, f"{len(next(iter(self.gaps.values())).sequences)} sequences"]


def analyse(
    model: str,
    weights: Path | None,
    base: Path | None,
    sequences: Collection[Frames],
    sampling: Sampling,
    *,
    dataset: str,
    device: str = "auto",
    embedding: Embedding = "pca",
    watch: Callable[[Frames], None] = lambda sequence: None,
) -> Report:
    """Measure a network, and with `base` the same one with other weights on the same frames.

    Raises:
        InputError: weights that are not there or do not fit, a missing optional package, or as `measure_gap`.
    """
    require_matplotlib()
    require_embedding(embedding)
    files = {model: weights} | ({} if base is None else {"base": base})
    digests = {label: check_weights(model, file) for label, file in files.items()}
    where = resolve_device(device)
    gaps = {}
    for label, file in files.items():
        net = prepare(build_net(model, weights=file), device=where)
        gaps[label] = measure_gap(
            net, model_spec(model).geometry, sequences, sampling, device=torch.device(where), watch=watch
        )
    numbers: dict[str, Any] = {"model": model, "dataset": dataset, "weights": digests[model]}
    numbers |= summary(gaps[model], sampling)
    if base is not None:
        numbers["base"] = {"weights": digests["base"], "pairs": summary(gaps["base"], sampling)["pairs"]}
    return Report(numbers, gaps, embedding)


def write_report(report: Report, folder: Path, earlier: Sequence[Curve] = ()) -> list[Path]:
    """Write gap.json, layers.png, clouds.png and maps.png; `earlier` curves are drawn beside the measured ones."""
    numbers, (label, *_) = report.numbers, report.gaps
    main, base = report.gaps[label], report.gaps.get("base")
    of = f"{numbers['model']} on {numbers['dataset']}"
    curves = [curve for name, gap in report.gaps.items() for curve in _curves(name, _means(gap))]
    count = len(main.sequences)
    many = "1 sequence" if count == 1 else f"{count} sequences"
    layer = f"layer {main.layer} of {main.layers - 1}"
    figures = {
        "layers": layer_plot([*curves, *earlier], f"{of}: gap between modalities by layer, {many}"),
        "clouds": cloud_plot(
            report.gaps,
            report.embedding,
            numbers["sampling"]["seed"],
            f"{of}: tokens of {layer}, {_METHODS[report.embedding]}",
        ),
        "maps": map_plot(main, base, f"{of}: {layer}"),
    }
    paths = [folder / "gap.json"]
    write_text(paths[0], json.dumps(numbers, indent=1) + "\n")
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        with atomic_path(paths[-1]) as temporary:
            figure.savefig(temporary, dpi=150)
    return paths


def read_curves(paths: Sequence[Path]) -> list[Curve]:
    """The curves of earlier reports, labelled by their model and folder.

    Raises:
        InputError: a file that is none of ours.
    """
    curves: list[Curve] = []
    for path in paths:
        if not path.is_file():
            raise InputError(f"--beside {path}: no such file; give a gap.json that an earlier run wrote")
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"--beside {path}: {path.stat().st_size} bytes are no report of a gap")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            means: Means = {
                (str(pair), str(kind)): (_line(each["mean"]), _error(each))
                for pair, kinds in content["pairs"].items()
                for kind, each in kinds.items()
            }
            label = f"{content['model']} ({path.resolve().parent.name})"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"--beside {path}: not a report of a gap ({error!r:.80})") from error
        curves += _curves(label, means)
    return curves


def _line(values: Any) -> NDArray[np.float64]:
    line = np.array(values, np.float64)
    if line.ndim != 1 or not 1 <= len(line) <= _MOST_LAYERS or not np.isfinite(line).all():
        raise ValueError("a list of finite numbers is wanted")
    return line


def _error(each: Any) -> NDArray[np.float64] | None:
    if each["standard_error"] is None:
        return None
    error = _line(each["standard_error"])
    if error.shape != _line(each["mean"]).shape:
        raise ValueError("means and errors of one length are wanted")
    return error


def _means(gap: Gap) -> Means:
    means: Means = {}
    for pair, kinds in gap.values.items():
        for kind, rows in kinds.items():
            error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else None
            means["-".join(pair), kind] = (rows.mean(axis=0), error)
    return means


def _curves(label: str, means: Means) -> list[Curve]:
    curves: list[Curve] = []
    for (pair, kind), (mean, error) in means.items():
        words = " and ".join(NAMES.get(name, name) for name in pair.split("-"))
        curves.append(Curve(f"{label}: {words}", kind, mean, error))
    return curves
