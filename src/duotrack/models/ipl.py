"""IPL: invertible prompt learning for RGB-T tracking with missing modalities (Lu et al., IJCV 2024).

One vision transformer serves both modalities; what is specific to a modality are a few extra layers, each fed with one
learned token. Where a modality is missing, a second pass of the available image stands in for it, with an invertible
prompter before every layer. Behaviour: docs/specs/ipl.md, sections 2 to 6.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from duotrack.models.attention import Block, init_transformer
from duotrack.models.branch import NAMES, Branch, Pair, apart, by_availability, in_order, in_sight, pick
from duotrack.models.elimination import elimination_score, keep_best, restore_search, take_search, template_centre
from duotrack.models.head import CenterHead
from duotrack.models.outputs import HeadMaps, NetOutput
from duotrack.models.prompter import Prompter

ELIMINATIONS = ("ce", "none")


@dataclass(frozen=True)
class _Route:
    """How a stream goes: whose image, whose specific layers and token, which prompters and patch embedding."""

    image: str
    specific: str
    prompter: str | None = None


_ROUTES = {
    "rgb": _Route("rgb", "rgb"),
    "tir": _Route("aux", "tir"),
    "rgb2tir": _Route("rgb", "tir", "rgb2tir"),
    "tir2rgb": _Route("aux", "rgb", "tir2rgb"),
}
_STREAMS = {("rgb", "aux"): ("rgb", "tir"), ("rgb",): ("rgb", "rgb2tir"), ("aux",): ("tir2rgb", "tir")}
"""Modalities at hand -> the streams whose features are fused, the RGB-like one first (section 2.6)."""


@dataclass
class States:
    """What training looks at: the maps of every availability state, and what the layers of each stream saw.

    `features`: stream ("rgb", "tir", "rgb2tir", "tir2rgb") -> a (B, tokens, channels) tensor a layer, in the order of
    the forward pass, specific layers with their token: the layer's input, which in a stand-in stream is what the
    prompter generated. `rebuilt`: stand-in stream -> the reconstructions of these.
    """

    complete: HeadMaps
    no_aux: HeadMaps
    no_rgb: HeadMaps
    features: dict[str, list[Tensor]]
    rebuilt: dict[str, list[Tensor]]


@dataclass
class _Encoded:
    """Of some streams: final tokens (B, template + search, C), positions kept after each stage, and `States`' lists."""

    final: dict[str, Tensor]
    kept: dict[str, list[Tensor]]
    features: dict[str, list[Tensor]]
    rebuilt: dict[str, list[Tensor]]


class IPL(nn.Module):
    """IPL network.

    Args:
        branch: makes the backbone, which both modalities share.
        head: makes the centre head for a number of input channels.
        elimination: "ce" (each stream its own) or "none"; may be set later.
        stages: blocks (0-based) that eliminate between attention and MLP, and after which specific layers stand.
        keep_ratio: share of search tokens that each stage keeps, rounded up.
    """

    def __init__(
        self,
        *,
        branch: Callable[[], nn.Module],
        head: Callable[[int], CenterHead],
        elimination: str = "ce",
        stages: tuple[int, ...] = (3, 6, 9),
        keep_ratio: float = 0.7,
    ) -> None:
        super().__init__()
        if elimination not in ELIMINATIONS:
            raise ValueError(f"elimination is one of {', '.join(ELIMINATIONS)}, got {elimination!r}")
        self.elimination = elimination
        self.stages = stages
        self.keep_ratio = keep_ratio
        backbone = branch()
        self.backbone = backbone
        shared = self._shared
        dim, last = shared.dim, shared.blocks[-1]
        for block in shared.blocks:
            _add_prompters(block, dim)
        for specific, unused in (("rgb", "rgb2tir"), ("tir", "tir2rgb")):
            rates = [last.drop_path * k / max(len(stages) - 1, 1) for k in range(len(stages))]
            layers = [Block(dim=dim, heads=last.attn.heads, drop_path=rate).apply(init_transformer) for rate in rates]
            for layer in layers:
                _add_prompters(layer, dim)
                layer.get_submodule(f"align_adapter_{unused}").requires_grad_(False)  # no stream ever passes it
            backbone.add_module(f"{specific}_msa_layers", nn.ModuleList(layers))
            token = nn.Parameter(torch.zeros(len(stages), 1, 1, dim))
            nn.init.normal_(token, std=0.02)
            backbone.register_parameter(f"mst_{specific}_token", token)
        for direction in ("rgb2tir", "tir2rgb"):
            backbone.add_module(f"patch_embed_{direction}", copy.deepcopy(shared.patches))
        self.box_head = head(2 * dim)

    @property
    def _shared(self) -> Branch:
        return self.backbone  # type: ignore[return-value]

    @property
    def search_grid(self) -> int:
        """Search tokens along one side."""
        return self._shared.search_grid

    def forward(
        self,
        *,
        template: Pair,
        search: Pair,
        available: tuple[str, ...] = ("rgb", "aux"),
        present: Tensor | None = None,
        keep_ratio: float | None = None,
    ) -> NetOutput:
        """Find the template's target in the search region.

        A modality that is missing (its search tensor None, or its name not in `available`) is stood in for by the other
        one's template and search image; its own template is not looked at. One that is present but never had a template
        is searched with the other's in its ordinary stream: the publication does not treat this case.

        Args:
            template: (rgb, aux), each (B, 3, T, T) normalised or None.
            search: (rgb, aux), each (B, 3, S, S) normalised or None.
            available: names of the modalities that count.
            present: (B, 2) bool, where samples differ in what they have: absent images are not looked at, and `kept`
                holds the samples that have both.
            keep_ratio: in place of the network's own; 1 eliminates nothing.

        Returns:
            Maps, features and `kept`, best token first; the halves of both belong to the streams that were fused.

        Raises:
            ValueError: no modality is present in the search region, or none in the template.
        """
        if present is None:
            fused, kept = self._fuse(template, search, available, keep_ratio)
        else:
            parts, order, kept = [], [], {}
            for names, index in by_availability(present):
                part, positions = self._fuse(pick(template, index), pick(search, index), names, keep_ratio)
                kept = positions if len(names) == 2 else kept
                parts.append(part)
                order.append(index)
            fused = in_order(parts, order)
        maps = self._maps(fused)
        return NetOutput(maps.score_map, maps.size_map, maps.offset_map, features=fused, kept=kept)

    def states(self, *, template: Pair, search: Pair, keep_ratio: float | None = None) -> States:
        """All four streams, reconstructions included, and the head on every state: for training only.

        Args:
            template, search: as in `forward`, both modalities given.
            keep_ratio: as in `forward`.
        """
        _, own = in_sight(template, search, NAMES)
        images = {name: image for name, image in zip(NAMES, search, strict=True) if image is not None}
        # apart, so that no gradient is kept for ordinary streams where all that they pass is frozen
        ordinary = self._run(("rgb", "tir"), own, images, keep_ratio, watch=True)
        standing_in = self._run(("rgb2tir", "tir2rgb"), own, images, keep_ratio, watch=True)
        final = ordinary.final | standing_in.final
        complete, no_aux, no_rgb = (
            self._maps(torch.cat([final[name] for name in streams], dim=-1)) for streams in _STREAMS.values()
        )
        return States(complete, no_aux, no_rgb, ordinary.features | standing_in.features, standing_in.rebuilt)

    def _maps(self, fused: Tensor) -> HeadMaps:
        maps: HeadMaps = self.box_head(fused[:, self._shared.template_grid**2 :])
        return maps

    def _fuse(
        self, template: Pair, search: Pair, available: tuple[str, ...], keep_ratio: float | None
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Fused features (B, tokens, 2 C) and positions kept, where all samples have the same modalities."""
        there, own = in_sight(template, search, available)
        images = {name: image for name, image in zip(NAMES, search, strict=True) if image is not None}
        streams = _STREAMS[there]
        encoded = self._run(streams, own, images, keep_ratio, watch=False)
        kept = {name: encoded.kept[stream] for name, stream in zip(NAMES, streams, strict=True)}
        return torch.cat([encoded.final[stream] for stream in streams], dim=-1), kept

    def _run(
        self,
        streams: tuple[str, ...],
        templates: dict[str, Tensor],
        searches: dict[str, Tensor],
        keep_ratio: float | None,
        *,
        watch: bool,
    ) -> _Encoded:
        """Streams side by side as one batch: what they share is computed once. `watch`: note features, reconstruct."""
        routes, shared = [_ROUTES[name] for name in streams], self._shared
        z, total = shared.template_grid**2, shared.search_grid**2
        ratio = self.keep_ratio if keep_ratio is None else keep_ratio
        seen: list[list[Tensor]] = [[] for _ in streams] if watch else []
        rebuilt: list[list[Tensor]] = [[] for _ in streams] if watch else []
        kept: list[Tensor] = []
        x = torch.cat([self._embed(route, templates[route.image], searches[route.image]) for route in routes])
        for i, block in enumerate(shared.blocks):
            parts = apart(x, len(streams))
            _prompt([block] * len(streams), routes, parts, seen, rebuilt)
            query = template_centre(shared.template_grid) if self.elimination != "none" and i in self.stages else None
            x, row = block.attend(torch.cat(parts), query=query)
            chosen = None if row is None else keep_best(elimination_score([row[:, :, z:]]), ratio, by_score=True)
            if chosen is not None:
                kept.append(kept[-1].gather(1, chosen) if kept else chosen)
                x = take_search(x, z, chosen)
            x = block.feed(x)
            if i in self.stages:
                x = self._pass_specific(self.stages.index(i), routes, x, seen, rebuilt)
        x = shared.norm(x)
        if kept:
            x = restore_search(x, z, kept[-1], total)
        count = len(streams)
        stages = [apart(stage, count) for stage in kept]
        return _Encoded(
            final=dict(zip(streams, apart(x, count), strict=True)),
            kept={name: [stage[j] for stage in stages] for j, name in enumerate(streams)},
            features=dict(zip(streams, seen, strict=False)),
            rebuilt={name: noted for name, noted in zip(streams, rebuilt, strict=False) if noted},
        )

    def _embed(self, route: _Route, template: Tensor, search: Tensor) -> Tensor:
        patches = None if route.prompter is None else self.backbone.get_submodule(f"patch_embed_{route.prompter}")
        return self._shared.embed(template, search, patches=patches)

    def _pass_specific(
        self, k: int, routes: list[_Route], x: Tensor, seen: list[list[Tensor]], rebuilt: list[list[Tensor]]
    ) -> Tensor:
        """Each stream through its `k`-th specific layer, its token in front on the way (section 2.3)."""
        layers: list[Block] = [
            self.backbone.get_submodule(f"{route.specific}_msa_layers.{k}")  # type: ignore[misc]
            for route in routes
        ]
        parts = []
        for route, part in zip(routes, apart(x, len(routes)), strict=True):
            token = self.backbone.get_parameter(f"mst_{route.specific}_token")[k]
            parts.append(torch.cat([token.expand(part.shape[0], -1, -1).to(part.dtype), part], dim=1))
        _prompt(layers, routes, parts, seen, rebuilt)
        # the token is attended to; what would become of it is not asked for
        return torch.cat([y.feed(y.attend(part)[0][:, 1:]) for y, part in zip(layers, parts, strict=True)])


def _add_prompters(layer: Block, dim: int) -> None:
    for direction in ("rgb2tir", "tir2rgb"):
        layer.add_module(f"align_adapter_{direction}", Prompter(dim=dim).apply(init_transformer))


def _prompt(
    layers: list[Block],
    routes: list[_Route],
    parts: list[Tensor],
    seen: list[list[Tensor]],
    rebuilt: list[list[Tensor]],
) -> None:
    """Replace tokens of stand-in streams by what their prompter generates; note features where `seen` is given."""
    for j, (layer, route) in enumerate(zip(layers, routes, strict=True)):
        if route.prompter is not None:
            prompter = layer.get_submodule(f"align_adapter_{route.prompter}")
            assert isinstance(prompter, Prompter)
            parts[j] = prompter.reverse(parts[j])
            if rebuilt:
                rebuilt[j].append(prompter(parts[j]))
        if seen:
            seen[j].append(parts[j])
