"""What the blocks of a network's backbones hand on, stream by stream, read from outside.

Any network will do whose backbones have `blocks` that begin with `norm1`, a final `norm` and a `search_grid`, whose
search tokens come last, and which advances rgb before aux: by two backbones, by one twice, or both as one batch, rgb
first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from duotrack.errors import InputError

Pair = tuple[Tensor | None, Tensor | None]
_NAMES = ("rgb", "aux")


def read_streams(net: nn.Module, template: Pair, search: Pair) -> tuple[dict[str, Tensor], Tensor | None]:
    """Search tokens of every layer of every stream.

    A network with a stream a modality gives "rgb" and "aux". One that fuses both before its only stream gives "fused",
    and "rgb" and "aux" from further passes in which it is given that modality alone, whatever it makes of that.

    Args:
        net: in evaluation mode, not packed for tracking (`duotrack.runtime.packed` replaces blocks); its candidate
            elimination is switched off meanwhile.
        template, search: images of both modalities, (B, 3, T, T) and (B, 3, S, S), normalised.

    Returns:
        Stream -> (layers, B, search tokens, channels), layer 0 being what goes into the first block; and what the
        network says it has fused, (B, 3, S, S), or None.

    Raises:
        InputError: the network has no such backbones.
    """
    tokens, fused = _pass(net, template, search, _NAMES)
    if len(tokens) == 2:
        return dict(zip(_NAMES, tokens, strict=True)), None
    streams = {"fused": tokens[0]}
    for i, name in enumerate(_NAMES):
        alone = [(pair[i], None) if i == 0 else (None, pair[i]) for pair in (template, search)]
        streams[name] = _pass(net, alone[0], alone[1], (name,))[0][0]
    return streams, fused


@torch.inference_mode()
def _pass(
    net: nn.Module, template: Pair, search: Pair, available: tuple[str, ...]
) -> tuple[list[Tensor], Tensor | None]:
    """Each stream's search tokens, (layers, B, n, C), and what was fused."""
    trunks = [m for m in net.modules() if isinstance(getattr(m, "norm", None), nn.LayerNorm) and _is_trunk(m)]
    batch = next(len(image) for image in search if image is not None)
    with _listening(trunks) as heard, _whole(net):
        out = net(template=template, search=search, available=available)
    per_layer = [_apart(calls, batch) for calls in heard if calls]
    if not per_layer or len({len(parts) for parts in per_layer}) != 1:
        raise InputError(f"the blocks of {type(net).__name__} cannot be read: it has no backbone of the usual form")
    cells = int(trunks[0].search_grid) ** 2  # type: ignore[arg-type]
    streams = zip(*per_layer, strict=True)
    return [torch.stack([tokens[:, -cells:].float() for tokens in layers]) for layers in streams], getattr(
        out, "fused", None
    )


def _is_trunk(module: nn.Module) -> bool:
    blocks = getattr(module, "blocks", None)
    return isinstance(blocks, nn.ModuleList) and hasattr(module, "search_grid") and hasattr(blocks[0], "norm1")


def _apart(calls: list[Tensor], batch: int) -> list[Tensor]:
    """The streams of one layer; a norm may be used again inside its block, after what the block was given."""
    if len(calls[0]) == 2 * batch:
        return list(calls[0].chunk(2))
    return calls[:2]


@contextmanager
def _listening(trunks: list[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """What goes into each block and into the last norm: a list of calls a layer, in the order of the forward pass."""
    depth = max((len(trunk.blocks) for trunk in trunks), default=0)  # type: ignore[arg-type]
    heard: list[list[Tensor]] = [[] for _ in range(depth + 1)]
    hooks = []
    for trunk in trunks:
        norms = [block.norm1 for block in trunk.blocks] + [trunk.norm]  # type: ignore[union-attr]
        for layer, norm in enumerate(norms):
            hooks.append(norm.register_forward_pre_hook(lambda _, given, layer=layer: heard[layer].append(given[0])))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _whole(net: Any) -> Iterator[None]:
    """No token is eliminated: layers and streams are then of one size."""
    before = getattr(net, "elimination", None)
    if before is None:
        yield
        return
    net.elimination = "none"
    try:
        yield
    finally:
        net.elimination = before
