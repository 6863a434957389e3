"""Pre-norm transformer block whose attention can also say how one query looks at all keys."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention with fused products (docs/specs/ckd.md, section 1.3).

    Args:
        dim: channels of a token.
        heads: number of heads, a divisor of `dim`.
    """

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim} channels")
        self.heads = heads
        # a runtime may know a faster way
        self.dot_product: Callable[[Tensor, Tensor, Tensor], Tensor] = dot_product_attention
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, *, query: int | None = None, skip: int = 0) -> tuple[Tensor, Tensor | None]:
        """Attend, and look at one query.

        Args:
            tokens: (B, N, C).
            query: index of the token whose attention is wanted (not together with `skip`).
            skip: the first so many tokens are looked at, but do not look themselves.

        Returns:
            (B, N - skip, C), and the post-softmax attention (B, heads, N) of that query in float32 without gradient, or
            None.
        """
        b, n, c = tokens.shape
        q, k, v = self.qkv(tokens).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        q = q[:, :, skip:]
        row = None if query is None else attention_row(q[:, :, query], k)
        mixed = self.dot_product(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(b, n - skip, c)), row


def dot_product_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of (B, heads, N, D) tensors.

    Fused, but where a gradient is wanted on the CPU: torch's fused backward pass is slow there (benchmarks/README.md,
    what training gains). The maps are then kept for it.
    """
    if q.device.type == "cpu" and q.requires_grad:
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        return weights.to(v.dtype) @ v  # autocast leaves a softmax in float32
    return F.scaled_dot_product_attention(q, k, v)


@torch.no_grad()
def attention_row(query: Tensor, keys: Tensor) -> Tensor:
    """Softmax attention of one query (B, heads, D) over keys (B, heads, N, D): (B, heads, N) float32."""
    logits = torch.einsum("bhd,bhnd->bhn", query.float(), keys.float()) * query.shape[-1] ** -0.5
    return logits.softmax(dim=-1)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act: nn.Module = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.fc2(self.act(self.fc1(tokens)))


class Block(nn.Module):
    """A pre-norm block in two halves, so that tokens can be eliminated between them.

    Args:
        dim: channels of a token.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over `dim`.
        drop_path: stochastic-depth rate of both residuals in training (drawn per sample and residual).
    """

    def __init__(self, *, dim: int, heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim=dim, heads=heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim=dim, hidden=int(dim * mlp_ratio))

    def attend(self, tokens: Tensor, *, query: int | None = None, skip: int = 0) -> tuple[Tensor, Tensor | None]:
        """The attention residual; see `Attention.forward` for `query`, `skip` and the second result."""
        mixed, row = self.attn(self.norm1(tokens), query=query, skip=skip)
        return tokens[:, skip:] + drop_path(mixed, self.drop_path, self.training), row

    def feed(self, tokens: Tensor) -> Tensor:
        """The MLP residual."""
        return tokens + drop_path(self.mlp(self.norm2(tokens)), self.drop_path, self.training)

    def forward(self, tokens: Tensor) -> Tensor:
        """Both halves, no elimination: (B, N, C) -> (B, N, C)."""
        return self.feed(self.attend(tokens)[0])


def through(tokens: Tensor, blocks: Iterable[nn.Module], *, skip: int = 0) -> Tensor:
    """Tokens (B, N, C) through blocks, one after the other, without elimination; of the last only those from `skip` on.

    Blocks that can be gone through together know how: their `through` may do it.
    """
    whole = list(blocks)
    if not whole:
        return tokens
    first, *after = whole
    together = getattr(first, "through", None)
    made: Tensor | None = None if together is None else together(tokens, after, skip=skip)
    if made is not None:
        return made
    *before, last = whole
    for block in before:
        tokens = block(tokens)
    return last.feed(last.attend(tokens, skip=skip)[0]) if skip else last(tokens)  # type: ignore[operator]


def drop_path(residual: Tensor, rate: float, training: bool) -> Tensor:
    """Stochastic depth: in training each sample of (B, N, C) is zero with probability `rate`, the others grow by it."""
    if not training or rate == 0.0:
        return residual
    keep = 1.0 - rate
    survives = residual.new_empty(residual.shape[0], 1, 1).bernoulli_(keep)
    return residual * survives / keep


def instance_norm(tokens: Tensor, *, axis: int = -2, eps: float = 1e-5) -> Tensor:
    """Zero mean and unit (biased) variance over tokens, per sample and channel (docs/specs/ckd.md, section 2.4).

    Args:
        tokens: (..., N, C).
        axis: -2 to normalise over tokens, -1 over channels.
    """
    variance, mean = torch.var_mean(tokens, dim=axis, keepdim=True, correction=0)
    return (tokens - mean) * torch.rsqrt(variance + eps)


def init_transformer(module: nn.Module) -> None:
    """Initial values of linear layers and layer norms (docs/specs/ckd.md, section 1.7), for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
