"""Back-ends by name: which precisions each computes in, where it runs, and how a network is made ready for it."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch

from duotrack.errors import InputError, nearest
from duotrack.models.zoo import ModelSpec, model_spec
from duotrack.runtime.convert import require_exporter
from duotrack.runtime.deploy import deploy
from duotrack.runtime.graph_cache import Recipe, forget_graph, kept_graph
from duotrack.runtime.graph_facts import BOTH, GraphFacts, Wanted
from duotrack.runtime.graph_net import GraphNet, Session
from duotrack.runtime.ir_file import read_ir_facts
from duotrack.runtime.onnx_file import read_onnx_facts
from duotrack.runtime.sessions import FILES, open_session, require
from duotrack.runtime.torch_backend import prepare, resolve_device
from duotrack.weights.build import build_net, packaged_weights
from duotrack.weights.safetensor import save_weights
from duotrack.weights.task import Trained, trained_on

logger = logging.getLogger(__name__)

BACKENDS: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "bf16", "fp16", "int8"),
    "compiled": ("fp32", "bf16", "fp16"),
    "onnxruntime": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
"""Back-end -> the precisions that it has."""


def is_export(weights: str | Path | None) -> bool:
    """Whether weights are an exported graph."""
    return weights is not None and Path(weights).suffix in FILES


def check_backend(backend: str | None, precision: str | None, weights: str | Path | None) -> tuple[str, str | None]:
    """The back-end and precision that will be used; a precision of None is an exported file's own.

    Raises:
        InputError: no such back-end or precision, or one that does not go with the other or with the file.
    """
    if backend is not None and backend not in BACKENDS:
        raise InputError(f"no backend is called {backend!r}{nearest(backend, list(BACKENDS))}")
    every = list(dict.fromkeys(name for names in BACKENDS.values() for name in names))
    if precision is not None and precision not in every:
        raise InputError(f"no precision is called {precision!r}{nearest(precision, every)}")
    runs = FILES[Path(weights).suffix] if weights is not None and is_export(weights) else ()
    if runs and backend is not None and backend not in runs:
        raise InputError(f"{weights} is an exported network: backend {' or '.join(runs)} runs it, not {backend}")
    chosen = backend or (runs[0] if runs else "torch")
    settled = precision if runs else precision or "fp32"
    if settled is not None and settled not in BACKENDS[chosen]:
        having = [name for name, has in BACKENDS.items() if settled in has]
        raise InputError(
            f"backend {chosen} has no precision {settled}, only {', '.join(BACKENDS[chosen])}; "
            f"{' and '.join(having)} have it"
        )
    if settled == "int8" and chosen != "torch" and not runs:
        raise InputError(
            f"int8 in backend {chosen} must be fitted to frames first: run `duotrack export MODEL --precision int8 "
            "--frames DIR --out FILE` and give the file as weights; backend torch fits it as it goes"
        )
    return chosen, settled


def backend_device(backend: str, device: str, precision: str | None) -> torch.device:
    """Where crops go and the network runs; see `duotrack.runtime.torch_backend.resolve_device`.

    Raises:
        InputError: also a GPU for a back-end that computes on the CPU only.
    """
    if backend in ("torch", "compiled"):
        return resolve_device(device, precision or "fp32")
    kind = resolve_device("cpu" if device == "auto" else device, "fp32")
    if backend == "openvino" and kind.type != "cpu":
        raise InputError(f"backend openvino runs on the CPU here, not on {device}; use device cpu, or backend compiled")
    return kind


def open_export(
    weights: str | Path, *, backend: str, precision: str | None, device: torch.device
) -> tuple[GraphNet, GraphFacts]:
    """A network from an exported file, and what the file says of it.

    Raises:
        InputError: the back-end is not installed, or the file cannot be used.
    """
    session = open_session(Path(weights), backend=backend, precision=precision, device=device)
    about = session.facts
    if (
        precision is not None
        and precision != about.precision
        and not (backend == "openvino" and {precision, about.precision} <= {"fp32", "bf16"})
    ):
        raise InputError(
            f"{weights} was exported in {about.precision}, not {precision}; export it again, or leave it out"
        )

    def refuse(wanted: Wanted) -> Session:
        if about.keeps and set(wanted.search) <= set(about.search) and about.masked:
            return session
        if len(about.search) == 2 and len(wanted.search) == 1:
            raise InputError(
                f"{weights} cannot answer a frame without {next(n for n in BOTH if n not in wanted.search)}: "
                "choose what stands in (missing: copy, zeros, hold-frame or hold-box), or use the original weights"
            )
        has = "either modality alone" if about.either else " and ".join(about.search)
        raise InputError(
            f"{weights} looks at {has}, this frame has {' and '.join(wanted.search)}: export with --modalities "
            f"{'both' if len(wanted.search) == 2 else wanted.search[0]}"
        )

    net = GraphNet(refuse, elimination=about.elimination)
    net.sessions.append(session)
    return net, about


def open_network(
    name: str,
    *,
    weights: str | Path | None,
    backend: str,
    precision: str,
    device: torch.device,
    elimination: str | None,
    prepare_for: tuple[str, ...] = BOTH,
) -> Any:
    """A network of the zoo, ready to be asked in the back-end.

    Args:
        prepare_for: which graph is made ready at once, for both sides or one; others are when they are asked for.

    Raises:
        InputError: the back-end is not installed, or the weights cannot be used.
    """
    if backend == "torch":
        net = deploy(build_net(name, weights=weights, elimination=elimination))
        return prepare(net, device=device, precision=precision, packed=True)
    if backend == "compiled":
        from duotrack.runtime.compiled import CompiledNet

        net = prepare(
            deploy(build_net(name, weights=weights, elimination=elimination)), device=device, precision=precision
        )
        return CompiledNet(net, device=device)
    require(backend)
    if backend == "onnxruntime":
        require_exporter()
    from duotrack.models.zoo import elimination_of

    spec = model_spec(name)
    if elimination is not None:
        elimination_of(spec, elimination)
    file = _weights_file(name, weights)

    def make(wanted: Wanted) -> Session:
        recipe = Recipe(
            model=name,
            weights=str(file),
            elimination=elimination,
            template=wanted.template,
            search=wanted.search,
            precision=precision,
            format="openvino" if backend == "openvino" else "onnx",
        )
        graph = kept_graph(recipe)
        try:
            return open_session(graph, backend=backend, precision=precision, device=device)
        except InputError as error:  # the library is here, and the graph was right when it was made
            logger.warning("a kept graph is damaged and made anew: %s", error)
            forget_graph(graph)
            return open_session(kept_graph(recipe), backend=backend, precision=precision, device=device)

    graphs = GraphNet(make, elimination="")
    names: Any = tuple(prepare_for)
    graphs.elimination = graphs.open(Wanted(names, names)).facts.elimination
    return graphs


def _weights_file(name: str, weights: str | Path | None) -> Path:
    """A file that holds the weights; random ones are written to one, so that all graphs have the same."""
    if weights is not None:
        if not Path(weights).is_file():
            raise InputError(f"no checkpoint at {weights}; check the path")
        return Path(weights)
    packaged = packaged_weights(model_spec(name))
    return _random_weights(name) if packaged is None else packaged


_passing: dict[str, tempfile.TemporaryDirectory[str]] = {}


def _random_weights(name: str) -> Path:
    if name not in _passing:
        _passing[name] = tempfile.TemporaryDirectory(prefix="duotrack-")
        net = build_net(name)
        save_weights(
            Path(_passing[name].name) / "random.safetensors",
            net,
            model=name,
            elimination=str(getattr(net, "elimination", "none")),
        )
    return Path(_passing[name].name) / "random.safetensors"


def facts_of(weights: str | Path) -> GraphFacts:
    """What an exported file says of itself.

    Raises:
        InputError: it cannot be used.
    """
    path = Path(weights)
    return read_ir_facts(path) if path.suffix == ".xml" else read_onnx_facts(path)


def trained_by(spec: ModelSpec, weights: str | Path | None) -> Trained:
    """What weights of any kind say that they were trained on, exports included.

    Raises:
        InputError: an export that cannot be used, or weights that name something that is no kind.
    """
    if weights is None or not is_export(weights):
        return trained_on(spec, weights)
    said = facts_of(weights)
    return Trained(said.task, said.depth_colours, str(weights))
