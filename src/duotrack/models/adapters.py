"""PATrack's adapters: small modules beside frozen transformer blocks (docs/specs/patrack.md, sections 1.3 to 1.5).

Both streams go through a module at once, RGB samples first: (2B, N, C) tokens. Tokens are those of square grids one
after the other (template, search); `sides` are their sides, and no adapter mixes one grid with another. Attribute names
are those of the published checkpoints.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duotrack.models.branch import apart


class Pointwise(nn.Conv2d):
    """A 1x1 convolution of tokens (..., C), which are multiplied where they are: as maps they would be turned first.

    Its weight is a convolution's, (outputs, inputs, 1, 1), as checkpoints have it.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, kernel_size=1, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.linear(tokens, self.weight.flatten(1), self.bias)


class FrequencyMixer(nn.Module):
    """Modality-dependent adapter (MDA): high and low spatial frequencies of a few channels, mixed.

    Args:
        dim: channels of a token.
        hidden: channels inside, a multiple of 4; half of them are the high-frequency branch's.
    """

    def __init__(self, *, dim: int, hidden: int = 8) -> None:
        super().__init__()
        if hidden % 4:
            raise ValueError(f"the mixer's channels are a multiple of 4, got {hidden}")
        self.high = hidden // 2
        mixed = hidden + hidden // 2
        self.D_fc1 = nn.Linear(dim, hidden)
        self.high_mixer = HighFrequency(inputs=self.high)
        self.conv_fuse = nn.Conv2d(mixed, mixed, kernel_size=3, padding=1, groups=mixed, bias=False)
        self.proj = Pointwise(mixed, dim, bias=True)

    def forward(self, tokens: Tensor, sides: tuple[int, ...]) -> Tensor:
        """(B, N, C) -> (B, N, C); sides are even."""
        return self.proj(over_grids(self._mix, self.D_fc1(tokens), sides))

    def _mix(self, cells: Tensor) -> Tensor:
        high = self.high_mixer(cells[:, : self.high])
        low = F.interpolate(F.avg_pool2d(cells[:, self.high :], 2), scale_factor=2.0, mode="nearest")
        both = torch.cat([high, low], dim=1)
        return both + self.conv_fuse(both)


class HighFrequency(nn.Module):
    """The high-frequency branch: a depthwise convolution of one half of the channels, local maxima of the other.

    Args:
        inputs: channels in, an even number; twice as many come out.
    """

    def __init__(self, *, inputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs // 2, inputs, kernel_size=1, bias=False)
        self.proj1 = nn.Conv2d(inputs, inputs, kernel_size=3, padding=1, groups=inputs, bias=False)
        self.proj2 = nn.Conv2d(inputs // 2, inputs, kernel_size=1)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, inputs, S, S) -> (B, 2 inputs, S, S)."""
        filtered, peaks = cells.chunk(2, dim=1)
        peaks = F.max_pool2d(peaks, kernel_size=3, stride=1, padding=1)
        return torch.cat([F.gelu(self.proj1(self.conv1(filtered))), F.gelu(self.proj2(peaks))], dim=1)


class SharedAttention(nn.Module):
    """Modality-entangled adapter (CEA): each modality looks at what both share.

    Args:
        dim: channels of a token.
        width: channels inside.
    """

    def __init__(self, *, dim: int, width: int = 192) -> None:
        super().__init__()
        self.down = Pointwise(dim, width)
        self.obj_fuse = Entangle(width=width)
        self.up = Pointwise(width, dim)

    def forward(self, tokens: Tensor, sides: tuple[int, ...], *, crossed: bool) -> Tensor:
        """(2B, N, C) -> (2B, N, C): what is added to the RGB stream, then to the auxiliary one.

        Args:
            tokens: RGB samples, then auxiliary ones.
            sides: of the grids.
            crossed: as released, a stream gets its own attention and the other's projection; otherwise, as the paper
                writes it, the other's attention and its own projection (docs/specs/patrack.md, section 1.4).
        """
        grids = torch.split(self.down(tokens), [side * side for side in sides], dim=1)
        return self.up(torch.cat([self.obj_fuse(grid, crossed=crossed) for grid in grids], dim=1))


class Entangle(nn.Module):
    """Attention of each modality over the descriptor that both share; single-headed, unscaled.

    The two gammas of the checkpoint are never used, so they are frozen.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.gamma2 = nn.Parameter(torch.zeros(1), requires_grad=False)
        for name in ("linear1", "linear2", "linear3", "linear4"):
            self.add_module(name, Pointwise(width, width))
        self.linearcat = Pointwise(2 * width, width)

    def forward(self, tokens: Tensor, *, crossed: bool) -> Tensor:
        """(2B, N, width) projections of both modalities, those of one grid -> the same shape."""
        rgb, aux = apart(tokens, 2)
        shared = self.linearcat(torch.cat([rgb, aux], dim=-1))
        looks = []
        for part, key, value in ((rgb, "linear1", "linear2"), (aux, "linear3", "linear4")):
            k, v = self.get_submodule(key)(part), self.get_submodule(value)(part)
            # the modality's key asks, the shared descriptor answers (softmax over its positions)
            # with a dimension for its one head, without which it cannot be written as ONNX
            looks.append(F.scaled_dot_product_attention(k[:, None], shared[:, None], v[:, None], scale=1.0)[:, 0])
        own, other = torch.cat(looks), torch.cat([aux, rgb])
        return own + other if crossed else torch.cat(looks[::-1]) + tokens


class HeadAdapter(nn.Module):
    """Task adapter before the head: three linear layers whose output replaces the feature.

    Args:
        dim: channels of a token. width: channels inside. dropout: share of the inner channels dropped in training.
    """

    def __init__(self, *, dim: int, width: int = 192, dropout: float = 0.1) -> None:
        super().__init__()
        self.adapter_down = nn.Linear(dim, width)
        self.adapter_mid = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.adapter_up = nn.Linear(width, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C); no activation, no residual."""
        return self.adapter_up(self.dropout(self.adapter_mid(self.adapter_down(tokens))))


def over_grids(function: Callable[[Tensor], Tensor], tokens: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Apply `function` ((B, C, S, S) -> (B, C', S, S)) to each grid of tokens (B, N, C): (B, N, C')."""
    parts = torch.split(tokens, [side * side for side in sides], dim=1)
    maps = [part.transpose(1, 2).reshape(*part.shape[::2], side, side) for part, side in zip(parts, sides, strict=True)]
    return torch.cat([function(cells).flatten(2) for cells in maps], dim=2).transpose(1, 2)
