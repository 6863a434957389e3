"""Selective scan, the recurrence of Mamba (Gu and Dao, 2023), in plain PyTorch (docs/specs/tpf.md, section 3.5).

h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t, per batch, channel and state, from h_{-1} = 0.

The sequence is cut into K chunks of Q steps. All chunks run side by side from zero (Q steps), then the states at their
ends are carried from chunk to chunk (K steps), and all chunks run again from the right state (Q steps). What is alive
at once are K x D x N numbers, which fit a CPU's cache, instead of L x D x N. Only numbers in (0, 1] are multiplied:
never a division, never an overflow. The backward pass computes the states again instead of keeping them.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BACKENDS = ("chunk", "loop", "mamba_ssm")


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    backend: str = "chunk",
    chunk: int | None = None,
    recompute: bool = True,
) -> Tensor:
    """The scan, in float32 at least, whatever autocast says.

    Args:
        u, delta: (B, L, D) input and step sizes, delta >= 0.
        a: (D, N) negative decay rates.
        b, c: (B, L, N) input and output projections.
        backend: "chunk"; "loop", the definition step by step; "mamba_ssm", the kernel of that package (CUDA, float32).
        chunk: steps in a chunk, at least 1; None takes the power of two nearest to the root of L.
        recompute: compute the states again in the backward pass; False keeps all L x D x N of them from the forward.

    Returns:
        (B, L, D), of the dtype of `u`.

    Raises:
        ValueError: an unknown backend, or a chunk of no step. ImportError: "mamba_ssm" is not installed.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"a chunk has at least one step, got {chunk}")
    if backend not in BACKENDS:
        raise ValueError(f"scan backend is one of {', '.join(BACKENDS)}, got {backend!r}")
    wide = torch.promote_types(u.dtype, torch.float32)
    with no_autocast(u.device):
        arguments = [x.to(wide) for x in (u, delta, a, b, c)]
        if backend == "loop":
            y = loop_scan(*arguments)
        elif backend == "mamba_ssm":
            y = _kernel_scan(*arguments)
        else:
            y = _ChunkedScan.apply(  # type: ignore[no-untyped-call]
                *arguments, chunk or default_chunk(u.shape[1]), recompute
            )
    return y.to(u.dtype)


def no_autocast(device: torch.device) -> AbstractContextManager[torch.autocast | None]:
    """Arithmetic as written on `device`; the meta device knows no autocast to begin with."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def default_chunk(length: int) -> int:
    """The power of two nearest to the root of `length`: 64 for 4096, 32 for 1024."""
    return 2 ** round(math.log2(max(length, 1)) / 2)


def loop_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The same, step by step: the definition, for tests and comparisons."""
    decay = torch.exp(delta.unsqueeze(-1) * a).unbind(1)
    gain = ((delta * u).unsqueeze(-1) * b.unsqueeze(2)).unbind(1)
    h = torch.zeros_like(gain[0])
    out = []
    for step, read in enumerate(c.unbind(1)):
        h = decay[step] * h + gain[step]
        out.append(torch.einsum("bdn,bn->bd", h, read))
    return torch.stack(out, dim=1)


def _kernel_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    interface = import_module("mamba_ssm.ops.selective_scan_interface")  # optional, and untyped
    y: Tensor = interface.selective_scan_fn(
        *(x.mT.contiguous() for x in (u, delta)), a, *(x.mT.contiguous() for x in (b, c))
    )
    return y.mT


class _ChunkedScan(Function):
    """Saves its inputs and the state at the start of each chunk, or all states where nothing is to be recomputed."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int, recompute: bool
    ) -> Tensor:
        steps = _Steps(u, delta, b, c, chunk)
        ends = torch.zeros_like(steps.state(a))
        for q in range(chunk):
            steps.advance(q, a, ends)
        starts = _carry(ends, torch.exp(steps.delta.sum(0).unsqueeze(-1) * a))
        y = torch.empty_like(steps.u)
        h = starts.clone()
        keeps = not recompute and any(ctx.needs_input_grad)
        kept = [starts] if keeps else []
        for q in range(chunk):
            steps.advance(q, a, h)
            torch.matmul(h, steps.c[q].unsqueeze(-1), out=y[q].unsqueeze(-1))
            if keeps:
                kept.append(h.clone())
        ctx.chunk = chunk
        ctx.save_for_backward(u, delta, a, b, c, starts, *kept)
        return _joined(y, u.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with no_autocast(grads[0].device):  # it may be on around the call of backward()
            return _gradients(ctx, grads[0])


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """What `_ChunkedScan` hands back for each of its arguments: the same scan from the end to the beginning."""
    u, delta, a, b, c, starts, *kept = ctx.saved_tensors
    steps = _Steps(u, delta, b, c, ctx.chunk)
    gy = _cut(grad, ctx.chunk)
    # what each chunk's start receives from the chunks after it
    g = torch.zeros_like(starts)
    for q in reversed(range(ctx.chunk)):
        g.addcmul_(gy[q].unsqueeze(-1), steps.c[q].unsqueeze(-2))
        g.mul_(steps.decay(q, a))
    total = torch.exp(steps.delta.sum(0).unsqueeze(-1) * a)
    g = _carry(g.flip(1), total.flip(1)).flip(1).contiguous()
    grad_u, grad_delta = torch.empty_like(steps.u), torch.empty_like(steps.u)
    grad_b, grad_c = torch.empty_like(steps.b), torch.empty_like(steps.c)
    grad_a = torch.zeros_like(a)
    for first, states in [(0, kept)] if kept else _backwards(steps, a, starts):
        for q in reversed(range(first, first + len(states) - 1)):
            before, after = states[q - first], states[q - first + 1]
            torch.matmul(gy[q].unsqueeze(-2), after, out=grad_c[q].unsqueeze(-2))
            g.addcmul_(gy[q].unsqueeze(-1), steps.c[q].unsqueeze(-2))  # dL/dh at this step
            drive = torch.matmul(g, steps.b[q].unsqueeze(-1)).squeeze(-1)
            torch.matmul((steps.delta[q] * steps.u[q]).unsqueeze(-2), g, out=grad_b[q].unsqueeze(-2))
            g.mul_(steps.decay(q, a))
            inner = g * before  # dL/d(delta A)
            grad_u[q] = drive * steps.delta[q]
            grad_delta[q] = drive * steps.u[q] + (inner * a).sum(-1)
            grad_a += (inner * steps.delta[q].unsqueeze(-1)).sum((0, 1))
    length = u.shape[1]
    return (
        _joined(grad_u, length),
        _joined(grad_delta, length),
        grad_a,
        _joined(grad_b, length),
        _joined(grad_c, length),
        None,
        None,
    )


class _Steps:
    """Inputs of a scan cut into chunks, step first: (Q, B, K, D) and (Q, B, K, N)."""

    def __init__(self, u: Tensor, delta: Tensor, b: Tensor, c: Tensor, chunk: int) -> None:
        self.u, self.delta, self.b, self.c = (_cut(x, chunk) for x in (u, delta, b, c))
        self._drive = self.delta * self.u

    def state(self, a: Tensor) -> Tensor:
        """An uninitialised state of every chunk, (B, K, D, N)."""
        return a.new_empty(*self.u.shape[1:], a.shape[1])

    def decay(self, q: int, a: Tensor) -> Tensor:
        """(B, K, D, N) what step `q` multiplies the states by."""
        return (self.delta[q].unsqueeze(-1) * a).exp_()

    def advance(self, q: int, a: Tensor, h: Tensor) -> None:
        """Take step `q` of all chunks, in place."""
        h.mul_(self.decay(q, a)).addcmul_(self._drive[q].unsqueeze(-1), self.b[q].unsqueeze(-2))


def _backwards(steps: _Steps, a: Tensor, starts: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """States again, from the last segment of a chunk to the first: (first step, states before it and after each)."""
    chunk = len(steps.u)
    size = max(1, math.isqrt(chunk))
    marks = []
    h = starts.clone()
    for q in range(chunk):
        if q % size == 0:
            marks.append(h.clone())
        if q < (chunk - 1) // size * size:
            steps.advance(q, a, h)
    for index in reversed(range(len(marks))):
        states = [marks.pop()]
        for q in range(index * size, min((index + 1) * size, chunk)):
            states.append(states[-1].clone())
            steps.advance(q, a, states[-1])
        yield index * size, states


def _carry(ends: Tensor, decay: Tensor) -> Tensor:
    """(B, K, D, N) states at the ends of chunks that began at zero -> states at the chunks' starts."""
    starts = torch.zeros_like(ends)
    for k in range(1, ends.shape[1]):
        torch.addcmul(ends[:, k - 1], decay[:, k - 1], starts[:, k - 1], out=starts[:, k])
    return starts


def _cut(x: Tensor, chunk: int) -> Tensor:
    """(B, L, F) -> (chunk, B, K, F), filled up with zeros, which decay nothing and add nothing."""
    batch, length, width = x.shape
    padded = F.pad(x, (0, 0, 0, -length % chunk))
    return padded.view(batch, padded.shape[1] // chunk, chunk, width).permute(2, 0, 1, 3).contiguous()


def _joined(x: Tensor, length: int) -> Tensor:
    """The inverse of `_cut`."""
    chunk, batch, count, width = x.shape
    return x.permute(1, 2, 0, 3).reshape(batch, count * chunk, width)[:, :length]
