"""What methods ask of a backbone, and of a batch whose samples differ in the modalities that they have."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from duotrack.models.attention import Block

Pair = tuple[Tensor | None, Tensor | None]
"""Images (rgb, aux), None where one is missing."""
NAMES = ("rgb", "aux")


class Branch(Protocol):
    """A backbone over template and search tokens (`VisionTransformer`, `HieraBranch`).

    `patches` turns an image into the first tokens.
    """

    dim: int
    template_grid: int
    search_grid: int
    blocks: Sequence[Block]
    norm: nn.LayerNorm

    @property
    def patches(self) -> nn.Module:
        """The patch embedding."""
        ...

    def embed(
        self, template: Tensor, search: Tensor, search_keep: Tensor | None = None, *, patches: nn.Module | None = None
    ) -> Tensor:
        """Images to (B, template + search tokens, dim)."""
        ...

    def embed_template(self, template: Tensor) -> Tensor:
        """The template's part of `embed`: (B, template tokens, dim)."""
        ...

    def embed_search(self, search: Tensor) -> Tensor:
        """The search region's part of `embed`: (B, search tokens, dim)."""
        ...


def in_sight(template: Pair, search: Pair, available: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Which modalities the search region has, and a template for each modality.

    A modality that never had a template is searched with the other's.

    Raises:
        ValueError: no modality is present in the search region, or none in the template.
    """
    there = tuple(name for name, image in zip(NAMES, search, strict=True) if image is not None and name in available)
    spare = next((image for image in template if image is not None), None)
    if not there or spare is None:
        raise ValueError("both modalities are missing: at least one template and one search image are needed")
    return there, {name: spare if z is None else z for name, z in zip(NAMES, template, strict=True)}


def by_availability(present: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Samples that have the same modalities: their names and the samples' numbers, those with both first.

    Args:
        present: (B, 2) bool.

    Raises:
        ValueError: a sample has no modality.
    """
    if not present.any(dim=1).all():
        raise ValueError("both modalities are missing in a sample of the batch")
    for names in (NAMES, *((name,) for name in NAMES)):
        wanted = torch.tensor([name in names for name in NAMES], device=present.device)
        index = (present == wanted).all(dim=1).nonzero()[:, 0]
        if len(index):
            yield names, index


def pick(pair: Pair, index: Tensor) -> Pair:
    """Samples `index` of both images."""
    rgb, aux = pair
    return None if rgb is None else rgb[index], None if aux is None else aux[index]


def in_order(parts: list[Tensor], indices: list[Tensor]) -> Tensor:
    """Results of groups of samples as one batch in the samples' own order."""
    return torch.cat(parts)[torch.cat(indices).argsort()]


def apart(x: Tensor, count: int) -> list[Tensor]:
    """A batch of `count` equal stacks -> the stacks; as `chunk`, with a size that a traced graph may leave open."""
    return list(x.reshape(count, x.shape[0] // count, *x.shape[1:]).unbind(0))
