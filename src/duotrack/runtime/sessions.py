"""Opening a graph file in one back-end or the other; each library is imported only when it is wanted."""

from pathlib import Path

import torch

from duotrack.runtime.graph_net import Session
from duotrack.runtime.seal import check_seal

FILES = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}
"""Suffix of an exported file -> back-ends that run it, the usual one first."""


def open_session(
    path: Path, *, backend: str, precision: str | None = None, device: torch.device | None = None
) -> Session:
    """A graph ready to run, with as many threads as torch has.

    Args:
        path: `.onnx` or `.xml`.
        backend: "onnxruntime" or "openvino".
        precision: in which OpenVINO computes; None: the file's own.
        device: where ONNX Runtime computes; None: the CPU.

    Raises:
        InputError: the back-end is not installed, or the file cannot be used.
    """
    threads = torch.get_num_threads()
    if backend == "openvino":
        from duotrack.runtime.openvino_backend import OpenVINOSession

        session: Session = OpenVINOSession(path, precision=precision, threads=threads)
    else:
        from duotrack.runtime.onnxruntime_backend import OnnxRuntimeSession

        session = OnnxRuntimeSession(path, device=device or torch.device("cpu"), threads=threads)
    check_seal(path)  # last: what is wrong with a file in particular says more
    return session


def require(backend: str) -> None:
    """Whether a back-end's library is installed.

    Raises:
        InputError: it is not; names the extra.
    """
    if backend == "openvino":
        from duotrack.runtime.openvino_backend import require_openvino

        require_openvino()
    if backend == "onnxruntime":
        from duotrack.runtime.onnxruntime_backend import require_onnxruntime

        require_onnxruntime()
