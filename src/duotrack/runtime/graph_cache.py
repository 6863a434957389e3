"""Graphs made once and kept: in a folder of the user's cache, by everything that they depend on.

Making one takes tens of seconds and several times the network's memory, so a process of its own does it; tracking then
loads only the graph. How large the folder may grow says `$DUOTRACK_CACHE_LIMIT` (`duotrack.runtime.graph_folder`).
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from duotrack.errors import InputError
from duotrack.runtime.graph_facts import FORMAT, Wanted
from duotrack.runtime.graph_folder import hold, making
from duotrack.runtime.kept import chosen_folder

logger = logging.getLogger(__name__)
_STEM = "graph"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a kept graph is made from.

    `weights` is a file; `precision` is in which its numbers are kept; `format` is "openvino" or "onnx".
    """

    model: str
    weights: str
    elimination: str | None
    template: tuple[str, ...]
    search: tuple[str, ...]
    precision: str
    format: str


def kept_graph(recipe: Recipe) -> Path:
    """The file of a graph, made now if it is not there.

    Raises:
        InputError: weights that cannot be read or do not fit, a library that is not installed, or a limit of the
            cache's size that is no number.
    """
    folder = cache_folder() / "graphs"
    name = _key(recipe)
    file = folder / name / f"{_STEM}{'.xml' if recipe.format == 'openvino' else '.onnx'}"
    if hold(file.parent) and file.is_file():
        return file
    logger.warning(
        "making the %s graph of %s for %s; it is kept in %s",
        recipe.format,
        recipe.model,
        " and ".join(recipe.search),
        folder,
    )
    with making(folder, name) as made:
        _build_apart(recipe, made / file.name)
    return file


def forget_graph(file: Path) -> None:
    """Remove a graph that `kept_graph` gave, so that it is made anew: its files were damaged since."""
    shutil.rmtree(file.parent, ignore_errors=True)  # another process may be at it; what stays is refused once more


def cache_folder() -> Path:
    """Where graphs are kept; a temporary folder, until the process ends, where that cannot be written."""
    try:
        folder = chosen_folder()
    except RuntimeError as error:  # no home
        return _passing_folder(str(error))
    try:
        (folder / "graphs").mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder / "graphs"):
            return folder
    except OSError as error:
        return _passing_folder(f"{folder}: {error.strerror}")


@cache
def _passing_folder(reason: str) -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="duotrack-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "graphs").mkdir()
    logger.warning("graphs cannot be kept (%s): made anew each time; set DUOTRACK_CACHE to a folder of yours", reason)
    return folder


def _key(recipe: Recipe) -> str:
    """A name that changes with anything that the graph depends on."""
    with Path(recipe.weights).open("rb") as stream:
        weights = hashlib.file_digest(stream, "sha256").hexdigest()
    libraries = ("torch", "openvino") if recipe.format == "openvino" else ("torch", "onnx", "onnxscript")
    given = {
        **asdict(recipe),
        "weights": weights,
        "graph": FORMAT,
        "code": _code(),
        **{name: version(name) for name in libraries},
    }
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Digest of the code that makes graphs."""
    digest = hashlib.sha256()
    for room in ("models", "runtime"):
        for file in sorted(Path(str(resources.files("duotrack"))).joinpath(room).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _build_apart(recipe: Recipe, file: Path) -> None:
    request = json.dumps({**asdict(recipe), "file": str(file)})
    package = str(Path(str(resources.files("duotrack"))).parent)
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "duotrack.runtime.graph_cache"],
        input=request,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode == 2:
        raise InputError(done.stdout.strip())
    if done.returncode or not file.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        logger.debug("%s", done.stderr)
        raise InputError(
            f"the {recipe.format} graph of {recipe.model} cannot be made ({last[:200]}); use backend torch"
        )


def build(recipe: Recipe, file: Path) -> None:
    """Make a graph in this process; it is checked against torch, for libraries have got graphs wrong without a word."""
    from duotrack.runtime.export import export_model

    export_model(
        recipe.model,
        file,
        weights=recipe.weights,
        elimination=recipe.elimination,
        format=recipe.format,
        precision=recipe.precision,
        batch=0,
        wanted=Wanted(recipe.template, recipe.search),  # type: ignore[arg-type]
    )


def _main() -> int:
    given = json.loads(sys.stdin.read())
    file = Path(given.pop("file"))
    recipe = Recipe(**{**given, "template": tuple(given["template"]), "search": tuple(given["search"])})
    try:
        build(recipe, file)
    except InputError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
