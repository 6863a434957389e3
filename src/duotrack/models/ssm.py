"""Vision Mamba block: a selective scan over tokens in both directions, or along four ways of a grid.

ViM (Zhu et al., ICML 2024) scans the token sequence and its reverse, each direction with its own parameters; VMamba's
cross-scan (Liu et al., NeurIPS 2024) runs along rows and columns, both ways. TPF's paper says that it uses ViM blocks;
norm, widths and initial values here are our reading (docs/specs/tpf.md, section 3.4).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.scan import no_autocast, selective_scan

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""As `selective_scan` from `u` to `c`."""
_STEP = (1e-3, 1e-1)
_STEP_FLOOR = 1e-4


class Route(nn.Module):
    """One way through the tokens: what a step size, an input and an output projection are made from."""

    def __init__(self, *, dim: int, rank: int, d_state: int) -> None:
        super().__init__()
        self.x_proj = nn.Linear(dim, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, dim)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, d_state + 1, dtype=torch.float32)).repeat(dim, 1))
        self.D = nn.Parameter(torch.ones(dim))
        self._sizes = (rank, d_state, d_state)
        # for optimisers: no weight decay pulls decay rates towards a common value (docs/specs/tpf.md, section 3.4)
        self.A_log.no_decay = True  # type: ignore[attr-defined]
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        step = torch.empty(dim).uniform_(math.log(_STEP[0]), math.log(_STEP[1])).exp().clamp(min=_STEP_FLOOR)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus gives `step` back

    def forward(self, u: Tensor, scan: Scan) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        rough, b, c = self.x_proj(u).split(self._sizes, dim=-1)
        # steps and decay rates stay wide under autocast: an error in them grows along the sequence
        raw = F.linear(rough, self.dt_proj.weight)
        with no_autocast(u.device):
            delta = F.softplus(_wide(raw) + _wide(self.dt_proj.bias))
            a = -torch.exp(_wide(self.A_log))
        return scan(u, delta, a, b, c) + self.D * u


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class ViMBlock(nn.Module):
    """Pre-norm residual block around the scans of all ways, which share input, gate and output projections.

    Args:
        dim: channels of a token.
        d_state: states a channel.
        expand: inner width over `dim`.
        d_conv: kernel of the causal convolution before the scan (`scan="bi"`).
        scan: "bi", the sequence and its reverse; "cross", rows and columns of the grid, each both ways.
        halve: with "bi", the mean of both directions instead of their sum.
        backend, chunk, recompute: see `scan.selective_scan`.
    """

    def __init__(
        self,
        *,
        dim: int,
        d_state: int = 16,
        expand: int = 2,
        d_conv: int = 4,
        scan: str = "bi",
        halve: bool = True,
        backend: str = "chunk",
        chunk: int | None = None,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        if scan not in ("bi", "cross"):
            raise ValueError(f"scan is bi or cross, got {scan!r}")
        inner = expand * dim
        self.halve = halve
        self.cross = scan == "cross"
        self.d_conv = d_conv
        self.states = (inner, d_state)
        self.chunked = backend == "chunk"
        self.scan: Scan = partial(selective_scan, backend=backend, chunk=chunk, recompute=recompute)
        self.norm = nn.LayerNorm(dim)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        ways = 4 if self.cross else 2
        self.routes = nn.ModuleList(Route(dim=inner, rank=math.ceil(dim / 16), d_state=d_state) for _ in range(ways))
        if self.cross:
            self.conv = nn.Conv2d(inner, inner, kernel_size=3, padding=1, groups=inner)
            self.out_norm = nn.LayerNorm(inner)
        else:
            self.convs = nn.ModuleList(nn.Conv1d(inner, inner, kernel_size=d_conv, groups=inner) for _ in range(2))

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, height * width, dim) tokens in raster order of `grid` (height, width) -> the same shape."""
        x, z = self.in_proj(self.norm(tokens)).chunk(2, dim=-1)
        mixed = self._four_ways(x, z, grid) if self.cross else self._both_ways(x, z)
        return tokens + self.out_proj(mixed)

    def _both_ways(self, x: Tensor, z: Tensor) -> Tensor:
        gate = F.silu(z)
        total: Tensor | None = None
        for way, (conv, route) in enumerate(zip(self.convs, self.routes, strict=True)):
            ordered = x.flip(1) if way else x
            u = F.silu(conv(F.pad(ordered.mT, (self.d_conv - 1, 0))).mT.contiguous())
            y = route(u, self.scan)
            y = y.flip(1) if way else y
            total = y if total is None else total + y
        assert total is not None
        return total * gate * (0.5 if self.halve else 1.0)

    def _four_ways(self, x: Tensor, z: Tensor, grid: tuple[int, int]) -> Tensor:
        height, width = grid
        b, _, inner = x.shape
        u = F.silu(self.conv(x.mT.reshape(b, inner, height, width)))
        rows = u.flatten(2).mT
        columns = u.mT.flatten(2).mT
        total = torch.zeros_like(rows)
        for way, route in enumerate(self.routes):
            ordered = columns if way % 2 else rows
            y = route((ordered.flip(1) if way > 1 else ordered).contiguous(), self.scan)
            y = y.flip(1) if way > 1 else y
            if way % 2:
                y = y.mT.reshape(b, inner, width, height).mT.flatten(2).mT
            total = total + y
        return self.out_norm(total) * F.silu(z)
