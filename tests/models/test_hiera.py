"""The window-major stem against a plain one that cuts windows anew in every block."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from duotrack.models.hiera import HieraBranch, HieraStem, StemBlock


def plain_block(block: StemBlock, x: Tensor, window: int) -> Tensor:
    """Hiera's block as it is usually written: (B, H, W, C) maps, windows cut and joined, 2x2 pooling on maps."""

    def cut(y: Tensor, side: int) -> Tensor:
        b, h, w, c = y.shape
        return y.view(b, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, side, side, c)

    def pool(y: Tensor) -> Tensor:
        return F.max_pool2d(y.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)

    b, h, w, _ = x.shape
    normed = block.norm1(x)
    shortcut = x if block.proj is None else block.proj(normed)
    if block.pool:
        shortcut, h, w = pool(shortcut), h // 2, w // 2
    cells = cut(normed, window)
    q, k, v = block.attn["qkv"](cells).chunk(3, dim=-1)
    side = window
    if block.pool:
        q, side = pool(q), window // 2
    heads = [t.flatten(1, 2).unflatten(-1, (block.heads, -1)).transpose(1, 2) for t in (q, k, v)]
    weights = (heads[0] @ heads[1].transpose(-1, -2) * heads[0].shape[-1] ** -0.5).softmax(-1)
    mixed = block.attn["proj"]((weights @ heads[2]).transpose(1, 2).flatten(2))
    mixed = mixed.view(b, h // side, w // side, side, side, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)
    x = shortcut + mixed
    return x + block.mlp(block.norm2(x))


def plain_stem(stem: HieraStem, image: Tensor) -> Tensor:
    cells = stem.patch_embed.proj(image)
    h, w = cells.shape[-2:]
    where = F.interpolate(stem.pos_embed, size=(h, w), mode="bicubic")
    x = (cells + where + stem.pos_embed_window.tile(1, 1, h // 8, w // 8)).permute(0, 2, 3, 1)
    for block, window in zip(stem.blocks, (8, 8, 4, 4), strict=True):
        x = plain_block(block, x, window)
    return x.flatten(1, 2)


@pytest.mark.parametrize("sizes", [(96, 192), (128, 256), (32, 64)])
def test_stem_equals_plain_windows(sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    stem = HieraStem().eval()
    images = [torch.randn(2, 3, size, size) for size in sizes]
    with torch.inference_mode():
        for image, tokens in zip(images, stem(images), strict=True):
            torch.testing.assert_close(tokens, plain_stem(stem, image), atol=2e-5, rtol=1e-4)


def test_branch_embeds_template_first_and_masks_search() -> None:
    branch = HieraBranch(template_size=32, search_size=64, depth=1).eval()
    keep = torch.ones(1, 16, dtype=torch.bool)
    keep[0, 3] = False
    with torch.inference_mode():
        tokens = branch.embed(torch.randn(1, 3, 32, 32), torch.randn(1, 3, 64, 64), keep)
    assert tokens.shape == (1, 4 + 16, 384)
    torch.testing.assert_close(tokens[0, 4 + 3], branch.pos_embed_x[0, 3])


@pytest.mark.parametrize(("template", "search"), [(100, 192), (96, 200)])
def test_sizes_must_be_whole_windows(template: int, search: int) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        HieraBranch(template_size=template, search_size=search)
