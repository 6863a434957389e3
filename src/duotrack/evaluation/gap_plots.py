"""Figures of the gap between modalities: by layer, as clouds of features, as maps.

Made without pyplot, in the colours of every figure here. Clouds as in figure 2 and maps as in figure 6 of
CKD's paper, layers as in figure 1 of TPF's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duotrack.errors import InputError
from duotrack.evaluation.figures import COLOURS, bare, blank_figure, letters, plain
from duotrack.evaluation.gap import Example, Gap, salience, similarity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Embedding = Literal["pca", "tsne"]
NAMES = {"rgb": "RGB", "aux": "auxiliary", "fused": "fused"}
TINTS = {"rgb": COLOURS[4], "aux": COLOURS[0], "fused": COLOURS[2]}


class Curve(NamedTuple):
    """One line: `mean` of each layer over sequences, and its standard error where it is known."""

    label: str
    kind: str
    mean: NDArray[np.float64]
    error: NDArray[np.float64] | None


def layer_plot(curves: Sequence[Curve], title: str) -> "Figure":
    """Squared MMD by layer, content dashed; a band is one standard error over sequences to either side."""
    labels = list(dict.fromkeys(curve.label for curve in curves))
    figure = blank_figure(7.0, 4.2 + 0.09 * len(curves))
    axes = figure.add_subplot()
    last = max(len(curve.mean) for curve in curves) - 1
    for label, kind, mean, error in curves:
        place = labels.index(label)
        look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "label": letters(f"{label}, {kind}")}
        look |= {"marker": "o^sD"[place // len(COLOURS) % 4], "markersize": 4, "linewidth": 1.6}
        layers = np.arange(len(mean))
        axes.plot(layers, mean, linestyle="solid" if kind == "features" else "dashed", **look)
        if error is not None:
            axes.fill_between(layers, mean - error, mean + error, color=look["color"], alpha=0.15, linewidth=0)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_xticks(range(0, last + 1, 1 if last <= 16 else 4))
    axes.set_xlabel("Layer (0: what goes into the first block)")
    axes.set_ylabel("Squared MMD")
    bare(axes, "y")
    figure.suptitle(letters(title), fontsize=10, x=0.02, horizontalalignment="left")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False, handlelength=3)
    return figure


def cloud_plot(gaps: Mapping[str, Gap], embedding: Embedding, seed: int, title: str) -> "Figure":
    """Tokens of the streams in two dimensions: a row a network, a column for features and one for their content.

    The networks of a column share one scale, as in CKD's figure 6. With PCA distances in the plane are distances of
    features, as far as two directions show them; with t-SNE only neighbourhoods mean something.
    """
    kinds = list(next(iter(gaps.values())).points)
    placed = {
        (name, kind): embed([points.numpy() for points in gap.points[kind].values()], embedding, seed)
        for name, gap in gaps.items()
        for kind in kinds
    }
    figure = blank_figure(0.4 + 4.2 * len(kinds), 0.9 + 3.3 * len(gaps))
    grid: Any = figure.subplots(len(gaps), len(kinds), squeeze=False)
    handles: dict[str, Any] = {}
    for column, kind in enumerate(kinds):
        boxes = {name: _bounds(np.concatenate(placed[name, kind])) for name in gaps}
        reach = np.max([half for _, half in boxes.values()], axis=0)
        for row, (name, gap) in enumerate(gaps.items()):
            axes = grid[row, column]
            streams = list(gap.points[kind])
            colours = np.repeat([TINTS[stream] for stream in streams], [len(cloud) for cloud in placed[name, kind]])
            order = np.random.default_rng(seed).permutation(len(colours))  # no stream covers another
            dots = np.concatenate(placed[name, kind])[order]
            axes.scatter(*dots.T, s=7, c=colours[order], alpha=0.55, linewidth=0, rasterized=True)
            for stream in streams:
                if stream not in handles:
                    handles[stream] = axes.scatter([], [], s=14, color=TINTS[stream])
            low, high = boxes[name][0] - reach, boxes[name][0] + reach
            axes.set_xlim(low[0], high[0])
            axes.set_ylim(low[1], high[1])
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color("#cccccc")
            if row == 0:
                what = "features" if kind == "features" else "content (style taken away)"
                axes.set_title(what, fontsize=9)
            if column == 0 and len(gaps) > 1:
                axes.set_ylabel(plain(name), fontsize=9)
    figure.suptitle(letters(title), fontsize=10, x=0.02, horizontalalignment="left")
    look: dict[str, Any] = {"loc": "outside lower center", "ncols": 3, "frameon": False, "fontsize": 8}
    figure.legend(handles.values(), [NAMES[stream] for stream in handles], **look)
    return figure


def _bounds(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle and half size of what (P, 2) points fill, with a rim."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, 0.54 * np.maximum(high - low, 1e-9)


def embed(clouds: Sequence[NDArray[np.float32]], embedding: Embedding, seed: int) -> list[NDArray[np.float64]]:
    """(P, C) points of each cloud, placed together -> (P, 2) each, about their common centre.

    Raises:
        InputError: t-SNE without scikit-learn.
    """
    rows = np.concatenate(clouds).astype(np.float64)
    rows -= rows.mean(axis=0)
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    flat = rows @ axes[: 2 if embedding == "pca" else 50].T
    if embedding == "tsne":
        flat = _tsne()(perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", random_state=seed).fit_transform(flat)
        flat = flat - flat.mean(axis=0)
    return np.split(np.asarray(flat, np.float64), np.cumsum([len(cloud) for cloud in clouds])[:-1])


def require_embedding(embedding: Embedding) -> None:
    """Say at once when an embedding cannot be made; raises as `embed`."""
    if embedding == "tsne":
        _tsne()


def _tsne() -> Any:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise InputError(
            "--embedding tsne needs scikit-learn, got none installed; pip install 'duotrack[eval]', or use pca"
        ) from error
    return TSNE


def map_plot(gap: Gap, base: Gap | None, title: str) -> "Figure":
    """A frame a row: what the network saw, where each stream's content is strong, where contents are alike.

    With `base`, another network of the same model on the same frames, also where each stream's content is like the
    other network's (the second row of CKD's figure 6).
    """
    others = base.examples if base is not None else (None,) * len(gap.examples)
    rows = [_cells(example, other) for example, other in zip(gap.examples, others, strict=True)]
    columns = len(rows[0])
    figure = blank_figure(1.55 * columns + 0.9, 1.5 * len(rows) + 0.95)
    grid: Any = figure.subplots(len(rows), columns, squeeze=False)
    scales: dict[str, Any] = {}
    for row, (example, cells) in enumerate(zip(gap.examples, rows, strict=True)):
        for column, (name, kind, values) in enumerate(cells):
            axes = grid[row, column]
            axes.set_xticks([])
            axes.set_yticks([])
            if kind == "image":
                axes.imshow(values)
            elif kind == "salience":  # its scale means nothing: weakest to strongest, outliers apart
                low, high = np.percentile(values, [2, 98])
                scales[kind] = axes.imshow((values - low) / max(high - low, 1e-9), cmap="inferno", vmin=0, vmax=1)
            else:
                scales[kind] = axes.imshow(values, cmap="viridis", vmin=-0.5, vmax=1)
                axes.set_xlabel(f"mean {values.mean():.2f}", fontsize=7, labelpad=2)
            if row == 0:
                axes.set_title(name, fontsize=8)
            if column == 0:
                axes.set_ylabel(f"{plain(example.sequence)}\nframe {example.frame}", fontsize=7)
    for kind, words in (("salience", "strength of content"), ("similarity", "cosine of contents")):
        at = [i for i, cell in enumerate(rows[0]) if cell[1] == kind]
        bar = figure.colorbar(
            scales[kind], ax=grid[:, at].ravel().tolist(), location="bottom", shrink=0.8, aspect=30, pad=0.03
        )
        bar.set_label(words, fontsize=7)
        bar.ax.tick_params(labelsize=6)
        if kind == "salience":
            bar.set_ticks([0, 1], labels=["weak", "strong"])
    figure.suptitle(letters(title), fontsize=10, x=0.02, horizontalalignment="left")
    return figure


def _cells(example: Example, other: Example | None) -> list[tuple[str, str, NDArray[Any]]]:
    """(title, kind, values) of a row."""
    cells: list[tuple[str, str, NDArray[Any]]] = [
        (NAMES[name], "image", image) for name, image in example.images.items()
    ]
    for name, features in example.features.items():
        cells.append((f"{NAMES[name]}:\ncontent", "salience", salience(features).numpy()))
    first, *rest = example.features
    for name in rest:
        alike = similarity(example.features[first], example.features[name])
        cells.append((f"{NAMES[first]} and\n{NAMES[name]}", "similarity", alike.numpy()))
    if other is not None:
        for name, features in example.features.items():
            alike = similarity(features, other.features[name])
            cells.append((f"{NAMES[name]}:\nlike the base", "similarity", alike.numpy()))
    return cells
