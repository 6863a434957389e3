"""Reference weights, inputs and files: `from reference import golden_file`."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).resolve().parent / "golden"


def golden_array(key: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A state-dict entry of the reference model: a function of its name and shape alone (tests/golden/README.md)."""
    draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)
    if key.endswith("running_var"):
        return 1 + 0.1 * np.abs(draw)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if len(shape) >= 2:
        return draw / np.float32(np.sqrt(np.prod(shape[1:])))
    return 1 + 0.1 * draw if key.endswith("weight") else 0.1 * draw


def golden_input(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A reference input: the plain normal draw seeded by its name."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)


def golden_file(name: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of one golden file."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def manifest(name: str) -> Any:
    """A state-dict manifest: key -> shape."""
    return json.loads((GOLDEN / f"{name}.json").read_text())
