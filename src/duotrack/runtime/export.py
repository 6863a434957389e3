"""Networks to files that other programs run: ONNX and OpenVINO IR, checked against torch before they are there."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from duotrack.errors import InputError, nearest
from duotrack.files import atomic_pair, atomic_path, writable
from duotrack.models.zoo import elimination_of, model_spec
from duotrack.runtime.convert import (
    describe,
    installed,
    prepared,
    require_exporter,
    save_openvino,
    say_facts,
    to_onnx,
    to_openvino,
)
from duotrack.runtime.graph_facts import BOTH, GraphFacts, Wanted
from duotrack.runtime.onnx_file import KEY
from duotrack.runtime.quantise import quantise, require_nncf
from duotrack.runtime.seal import seal
from duotrack.runtime.sessions import FILES, open_session, require
from duotrack.runtime.verify import agrees, check, differences
from duotrack.weights.build import build_net
from duotrack.weights.task import trained_on

FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "onnx": (".onnx", ("fp32", "fp16", "int8")),
    "openvino": (".xml", ("fp32", "bf16", "int8")),
}
"""Format -> suffix of its files, and the precisions that it has."""

WANTED = Wanted(BOTH, BOTH)
COMPARED = 8
"""Views of frames that an int8 graph is compared with torch on."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    `facts` is what it says of itself; `differences` the largest one of each map from torch, for every installed
    back-end that runs such files; `trusted` those back-ends that differ no more than they may; `size` in bytes.
    """

    path: Path
    facts: GraphFacts
    differences: dict[str, dict[str, float]]
    trusted: tuple[str, ...]
    size: int


def check_request(
    name: str,
    out: Path,
    *,
    elimination: str | None = None,
    format: str | None = None,
    precision: str = "fp32",
    batch: int = 1,
    fitted: bool = False,
) -> Literal["onnx", "openvino"]:
    """The format that was meant, by its name or by the file's suffix; no network and no library is loaded before.

    Args:
        name, out, elimination, format, precision, batch: as in `export_model`.
        fitted: whether there are frames to fit int8 to.

    Raises:
        InputError: anything that is not known, does not go together, or whose library is not installed.
    """
    spec = model_spec(name)
    if spec.templates > 1:
        raise InputError(f"{name} takes two templates, which exported graphs do not know; it runs in torch only")
    if elimination is not None:
        elimination_of(spec, elimination)
    by_suffix = next((name for name, (suffix, _) in FORMATS.items() if suffix == out.suffix), None)
    chosen = format or by_suffix
    if chosen is None:
        raise InputError(f"{out}: the file is called .onnx or .xml (OpenVINO), or say --format")
    if chosen not in FORMATS:
        raise InputError(f"no format is called {chosen!r}{nearest(chosen, list(FORMATS))}")
    suffix, precisions = FORMATS[chosen]
    if out.suffix != suffix:
        raise InputError(f"a file in format {chosen} is called {suffix}, got {out}; rename it")
    if precision not in precisions:
        raise InputError(f"format {chosen} has no precision {precision}, only {', '.join(precisions)}")
    if not 0 <= batch <= 4096:
        raise InputError(f"batch {batch}: a number from 1 to 4096, or dynamic")
    if (precision == "int8") != fitted:
        raise InputError("int8, and only int8, is fitted to frames: give --frames DIR with it, and not without it")
    if not writable(out):
        raise InputError(f"{out} cannot be written; name a file in a folder of yours")
    if fitted:
        require_nncf()
    if chosen == "onnx":
        require_exporter()
    require(FILES[suffix][0])
    return "onnx" if chosen == "onnx" else "openvino"


def export_model(
    name: str,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    elimination: str | None = None,
    format: str | None = None,
    precision: str = "fp32",
    batch: int = 1,
    wanted: Wanted = WANTED,
    samples: Sequence[Sequence[Tensor]] | None = None,
) -> Exported:
    """Write a network as a graph, after it was run against torch.

    Args:
        name: a model of the zoo.
        out: `.onnx`, or `.xml` (its weights go beside it as `.bin`).
        weights, elimination: as in `load_tracker`.
        format: "onnx" or "openvino"; None: by the suffix of `out`.
        precision: "fp32", "fp16" (ONNX), "bf16" (OpenVINO) or "int8".
        batch: how many samples the graph takes; 0 for any number.
        wanted: images that the graph takes; one that takes both also answers without either where its network masks.
        samples: for int8, views of frames: for each the graph's images in the order of `Wanted.input_names`, without
            `present` (`duotrack.tracking.calibration.calibration_views`).

    Raises:
        InputError: anything above that cannot be had, or a graph that differs too much from torch; nothing is written
            then.
    """
    out = Path(out)
    check_request(
        name,
        out,
        elimination=elimination,
        format=format,
        precision=precision,
        batch=batch,
        fitted=samples is not None,
    )
    spec = model_spec(name)
    net = prepared(build_net(name, weights=weights, elimination=elimination))
    trained = trained_on(spec, weights)
    about = describe(net, spec, wanted, precision=precision, batch=batch, trained=trained)
    views = None if samples is None else [_with_mask(sample, about) for sample in samples]
    with _whole(out) as temporary:
        _write(net, about, temporary, views)
        seal(temporary)
        compared = None if views is None else [_stacked(view, about) for view in views[:COMPARED]]
        found = {name: differences(open_session(temporary, backend=name), net, compared) for name in _runners(out)}
        check(next(iter(found.values())), net, about)
        trusted = tuple(name for name, each in found.items() if agrees(each, net, about))
    return Exported(out, about, found, trusted, sum(file.stat().st_size for file in files_of(out)))


def files_of(out: Path) -> list[Path]:
    """What an export is made of: the file that was named, and for IR the one with its numbers."""
    return [out, out.with_suffix(".bin")] if out.suffix == ".xml" else [out]


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A temporary path to write an export to, IR's `.bin` beside it; their names change when the block ends well."""
    if len(files_of(out)) == 1:
        with atomic_path(out) as temporary:
            yield temporary
        return
    with atomic_pair(*files_of(out)) as (temporary, numbers):
        beside = temporary.with_suffix(".bin")
        try:
            yield temporary
            beside.replace(numbers)
        finally:
            beside.unlink(missing_ok=True)


def _runners(file: Path) -> list[str]:
    """The back-ends that run a file and are installed here, the usual one first; that one must be."""
    first, *others = FILES[file.suffix]
    return [first, *(name for name in others if installed(name))]


def _write(net: nn.Module, about: GraphFacts, file: Path, views: Sequence[Sequence[Tensor]] | None) -> None:
    if file.suffix == ".xml":
        model = to_openvino(net, about)
        if views is not None:
            model = quantise(model, about, views)
            say_facts(model, about)
        save_openvino(model, file, half=about.precision == "bf16")
        return
    traced = prepared(copy.deepcopy(net), precision="fp16") if about.precision == "fp16" else net
    program = to_onnx(traced, about)
    if views is None:
        program.save(str(file))
        return
    import onnx

    small = quantise(program.model_proto, about, views)
    onnx.helper.set_model_props(small, {KEY: about.text()})
    onnx.save(small, str(file))


def _with_mask(sample: Sequence[Tensor], about: GraphFacts) -> list[Tensor]:
    """All the inputs of a graph for one view."""
    return [*sample, torch.ones(1, 2, dtype=torch.bool)] if about.masked else list(sample)


def _stacked(view: Sequence[Tensor], about: GraphFacts) -> list[Tensor]:
    return [each.repeat_interleave(about.batch or 1, dim=0) for each in view]
