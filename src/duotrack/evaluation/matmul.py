"""How fast this machine multiplies matrices, by each library that is installed: the ceiling of any network."""

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from duotrack.runtime.openvino_backend import openvino_core
from duotrack.runtime.torch_backend import PRECISIONS

SHAPES = ((320, 768, 3072), (1024, 1024, 1024), (2048, 2048, 2048))
"""(M, K, N) of the products on a CPU: a ViT-B's, and larger ones. A chain goes K -> N -> K."""
CUDA_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192))
SPAN = 0.04
"""Seconds that one figure is taken over, at least."""

Product = Callable[[], Any]


def measure_peak(precision: str, device: str = "cpu") -> dict[str, float]:
    """FLOP/s of chains of two matrix products, in one round of measuring.

    Args:
        precision: "fp32", "bf16", "fp16" or "int8".
        device: "cpu" or a CUDA device; there only torch multiplies.

    Returns:
        "library MxKxN" -> FLOP/s, for every library that is installed and has such a product; empty where none has.
    """
    figures = {}
    for name, (product, flops) in _products(precision, device).items():
        product()
        times: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < SPAN or len(times) < 2:
            start = time.perf_counter()
            product()
            times.append(time.perf_counter() - start)
        figures[name] = flops / statistics.median(times)
    return figures


@cache
def _products(precision: str, device: str) -> dict[str, tuple[Product, int]]:
    """Everything that can be timed, made once a process: "library MxKxN" -> (product, its operations)."""
    where = torch.device(device)
    makers: dict[str, Callable[[str, tuple[int, int, int]], Product | None]] = {"torch": _torch_product}
    if where.type == "cpu":
        makers |= {"openvino": _openvino_product, "onnxruntime": _onnxruntime_product}
    products: dict[str, tuple[Product, int]] = {}
    for library, make in makers.items():
        if importlib.util.find_spec(library) is None:
            continue
        for shape in SHAPES if where.type == "cpu" else CUDA_SHAPES:
            product = make(precision, shape) if where.type == "cpu" else _cuda_product(precision, shape, where)
            if product is not None:
                products[f"{library} {'x'.join(map(str, shape))}"] = (product, 4 * math.prod(shape))
    return products


def _operands(shape: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    """x (M, K), w (K, N), v (N, K) float32; values that neither grow nor vanish in a chain."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    w, v = draw((k, n), np.float32) / np.float32(k**0.5), draw((n, k), np.float32) / np.float32(n**0.5)
    return draw((m, k), np.float32), w, v


def _torch_product(precision: str, shape: tuple[int, int, int]) -> Product | None:
    if precision not in ("fp32", "bf16"):
        return None
    x, w, v = (torch.from_numpy(each).to(PRECISIONS[precision]) for each in _operands(shape))
    w, v = w.t().contiguous(), v.t().contiguous()  # as a linear layer keeps them

    @torch.inference_mode()
    def product() -> Any:
        return torch.nn.functional.linear(torch.nn.functional.linear(x, w), v)

    return product


def _cuda_product(precision: str, shape: tuple[int, int, int], device: torch.device) -> Product | None:
    if precision not in ("fp32", "bf16", "fp16"):
        return None
    x, w, v = (torch.from_numpy(each).to(device, PRECISIONS[precision]) for each in _operands(shape))

    @torch.inference_mode()
    def product() -> Any:
        out = x @ w @ v
        torch.cuda.synchronize(device)
        return out

    return product


def _openvino_product(precision: str, shape: tuple[int, int, int]) -> Product | None:
    if precision not in ("fp32", "bf16", "int8"):
        return None
    import openvino as ov
    from openvino import opset13 as ops

    x, w, v = _operands(shape)
    entry = ops.parameter(list(x.shape), np.float32)
    node = entry
    for weight in (w, v):
        if precision == "int8":
            node, weight = _quantised(ops, node), _quantised(ops, ops.constant(weight))
        node = ops.matmul(node, weight, False, False)
    model = ov.Model([ops.result(node)], [entry], "product")
    hint = "bf16" if precision == "bf16" else "f32"
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    options |= {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "ENABLE_CPU_PINNING": False}  # as networks have them
    request = openvino_core().compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    return lambda: request.infer()


def _quantised(ops: Any, node: Any) -> Any:
    """Rounded to 255 levels, which OpenVINO multiplies in int8."""
    low, high = np.float32(-4), np.float32(4)
    return ops.fake_quantize(node, low, high, low, high, 255)


def _onnxruntime_product(precision: str, shape: tuple[int, int, int]) -> Product | None:
    if precision != "fp32" or importlib.util.find_spec("onnx") is None:
        return None
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    x, w, v = _operands(shape)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("MatMul", ["y", "v"], ["z"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(x.shape)) for name in ("x", "z")]
    weights = [numpy_helper.from_array(array, name) for array, name in ((w, "w"), (v, "v"))]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), threads, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})
