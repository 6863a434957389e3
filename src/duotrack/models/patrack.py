"""PATrack: progressive adaptation of an RGB tracker to a second modality (Wang et al., arXiv 2603.21100, 2026).

One frozen backbone serves both streams; adapters in its blocks let them speak, one more stands before the head.
Behaviour: docs/specs/patrack.md, section 1.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from duotrack.models.adapters import FrequencyMixer, HeadAdapter, SharedAttention
from duotrack.models.attention import Attention, Mlp, drop_path
from duotrack.models.branch import apart
from duotrack.models.head import CenterHead
from duotrack.models.outputs import NetOutput

Pair = tuple[Tensor | None, Tensor | None]
Routing = Literal["released", "published"]
ROUTINGS: tuple[str, ...] = get_args(Routing)
_NAMES = ("rgb", "aux")


class AdaptedBlock(nn.Module):
    """A pre-norm transformer block with adapters in both halves (docs/specs/patrack.md, section 1.2).

    It carries both kinds of adapters, as the checkpoints do, and uses one.

    Args:
        dim: channels of a token. heads: attention heads.
        drop_path: stochastic-depth rate of attention, MLP and adapters, each drawn by itself for sample and stream.
        mlp_ratio: hidden width of the MLP over `dim`.
        width: channels inside the modality-entangled adapters.
    """

    def __init__(
        self, *, dim: int, heads: int, drop_path: float = 0.0, mlp_ratio: float = 4.0, width: int = 192
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim=dim, heads=heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim=dim, hidden=int(dim * mlp_ratio))
        self.adap_t, self.adap2_t = FrequencyMixer(dim=dim), FrequencyMixer(dim=dim)
        self.highfuseadapter1 = SharedAttention(dim=dim, width=width)
        self.highfuseadapter2 = SharedAttention(dim=dim, width=width)
        self.norml1, self.norml2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)

    def unused(self, *, entangled: bool) -> list[nn.Module]:
        """The adapters that `forward` does not look at."""
        if entangled:
            return [self.adap_t, self.adap2_t]
        return [self.highfuseadapter1, self.highfuseadapter2, self.norml1, self.norml2]

    def forward(self, tokens: Tensor, sides: tuple[int, ...], *, entangled: bool, crossed: bool) -> Tensor:
        """(2B, N, C), RGB samples then auxiliary ones -> the same shape.

        Args:
            tokens: those of the grids one after the other.
            sides: of the grids.
            entangled: use the modality-entangled adapters instead of the modality-dependent ones.
            crossed: adapters speak to the other stream, as released; see `PATrack`.
        """
        normed = self.norm1(tokens)
        if entangled:
            added = self.norm1(self.highfuseadapter1(self.norml1(tokens), sides, crossed=crossed))
        else:
            added = _swapped(self.adap_t(normed, sides), crossed)
        tokens = tokens + self._drop(self.attn(normed)[0]) + self._drop(added)
        normed = self.norm2(tokens)
        if entangled:
            added = self.norm2(self.highfuseadapter2(self.norml2(tokens), sides, crossed=crossed))
        else:
            added = _swapped(self.adap2_t(normed, sides), crossed)
        return tokens + self._drop(self.mlp(normed)) + self._drop(added)

    def _drop(self, residual: Tensor) -> Tensor:
        return drop_path(residual, self.drop_path, self.training)


class Backbone(Protocol):
    """What PATrack asks of a backbone: a `VisionTransformer` made of `AdaptedBlock`s."""

    dim: int
    template_grid: int
    search_grid: int
    blocks: Sequence[AdaptedBlock]
    norm: nn.LayerNorm

    def embed(self, template: Tensor, search: Tensor) -> Tensor:
        """Images to (B, template + search tokens, dim)."""
        ...


class PATrack(nn.Module):
    """PATrack network.

    What the forward pass never looks at but checkpoints carry (`norm1`, the other kind of adapters in each block, the
    gammas) is frozen, so that no training lists or decays it.

    Args:
        backbone: makes the backbone, which both modalities share.
        head: makes a centre head for a number of input channels.
        elimination: "none"; the adapters need full grids.
        entangled: blocks (0-based) with modality-entangled adapters; the others have modality-dependent ones.
        routing: "released": each block's adapters speak to the other stream, which the published checkpoints need;
            "published": the paper's text and formula, within a stream (docs/specs/patrack.md, sections 1.2 and 1.4).
        head_width: channels inside the head adapter.

    Raises:
        ValueError: an unknown routing, an elimination, or grids with an odd side.
    """

    def __init__(
        self,
        *,
        backbone: Callable[[], nn.Module],
        head: Callable[[int], CenterHead],
        elimination: str = "none",
        entangled: tuple[int, ...] = (3, 6, 9),
        routing: str = "released",
        head_width: int = 192,
    ) -> None:
        super().__init__()
        if routing not in ROUTINGS:
            raise ValueError(f"routing is one of {', '.join(ROUTINGS)}, got {routing!r}")
        if elimination != "none":
            raise ValueError(f"the adapters need full grids: elimination is 'none' only, got {elimination!r}")
        self.elimination = elimination
        self.routing = routing
        self.entangled = entangled
        self.backbone = backbone()
        trunk = self._trunk
        if trunk.template_grid % 2 or trunk.search_grid % 2:
            raise ValueError(f"grids of {trunk.template_grid} and {trunk.search_grid} cells: the sides must be even")
        self.box_head = head(trunk.dim)
        self.norm1 = nn.LayerNorm(trunk.dim).requires_grad_(False)
        self.adapter_head = HeadAdapter(dim=trunk.dim, width=head_width)
        for i, block in enumerate(trunk.blocks):
            for module in block.unused(entangled=i in entangled):
                module.requires_grad_(False)

    @property
    def _trunk(self) -> Backbone:
        return self.backbone  # type: ignore[return-value]

    def forward(
        self,
        *,
        template: Pair,
        search: Pair,
        available: tuple[str, ...] = _NAMES,
        present: Tensor | None = None,
    ) -> NetOutput:
        """Find the template's target in the search region.

        The stream of a modality that is missing (its search tensor None, or its name not in `available`) sees the
        other's template and search images; one that is present but never had a template takes the other's template.
        PATrack itself knows no missing modalities: this fallback is ours.

        Args:
            template: (rgb, aux), each (B, 3, T, T) normalised or None.
            search: (rgb, aux), each (B, 3, S, S) normalised or None.
            available: names of the modalities that count.
            present: (B, 2) bool, where samples differ in what they have; all four images are given then.

        Raises:
            ValueError: no modality is present in the search region, or none in the template.
        """
        if present is not None:
            template, search = _fill(template, present), _fill(search, present)
        z, x = _complete(template, search, available)
        trunk = self._trunk
        tokens = trunk.embed(z, x)
        sides = (trunk.template_grid, trunk.search_grid)
        for i, block in enumerate(trunk.blocks):
            tokens = block(tokens, sides, entangled=i in self.entangled, crossed=self.routing == "released")
        rgb, aux = apart(trunk.norm(tokens), 2)
        fused = rgb + aux
        maps = self.box_head(self.adapter_head(fused[:, trunk.template_grid**2 :]))
        return NetOutput(score_map=maps.score_map, size_map=maps.size_map, offset_map=maps.offset_map, features=fused)


def _swapped(added: Tensor, crossed: bool) -> Tensor:
    """What the two halves of a (2B, N, C) batch get: their own, or each other's."""
    return torch.cat(apart(added, 2)[::-1]) if crossed else added  # no `roll`: ONNX has none for an open batch


def _fill(pair: Pair, present: Tensor) -> Pair:
    """Absent images of a batch, (B, 2) bool says which, replaced by the other modality's."""
    if not present.any(dim=1).all():
        raise ValueError("both modalities are missing in a sample of the batch")
    rgb, aux = pair
    if rgb is None or aux is None:
        raise ValueError("with `present` the images of both modalities are given, whatever the absent ones hold")
    has_rgb, has_aux = (present[:, i].view(-1, 1, 1, 1) for i in range(2))
    return torch.where(has_rgb, rgb, aux), torch.where(has_aux, aux, rgb)


def _complete(template: Pair, search: Pair, available: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Template and search images of both streams, RGB samples first: (2B, 3, T, T), (2B, 3, S, S)."""
    there = [i for i in range(2) if search[i] is not None and _NAMES[i] in available]
    spare = next((image for image in template if image is not None), None)
    if not there or spare is None:
        raise ValueError("both modalities are missing: at least one template and one search image are needed")
    seen = [i if i in there else there[0] for i in range(2)]  # whose images each stream sees
    templates = [template[i] for i in seen]
    return (
        torch.cat([spare if image is None else image for image in templates]),
        torch.cat([image for image in (search[i] for i in seen) if image is not None]),
    )
