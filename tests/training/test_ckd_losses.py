"""Style and content terms against the reference and against each other."""

import numpy as np
import pytest
import torch
from torch import Tensor

from duotrack.training.distillation import (
    content_term,
    feature_term,
    instance_norm,
    over_layers,
    per_block,
    style_term,
)
from reference import golden_file, golden_input

GOLDEN = {k: torch.from_numpy(np.asarray(v)) for k, v in golden_file("ckd_g_targets").items()}


def features(tokens: int = 320) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(golden_input("ckd.loss.x", (2, 320, 768)))[:, :tokens]
    y = torch.from_numpy(golden_input("ckd.loss.y", (2, 320, 768)))[:, :tokens] * 1.3 + 0.2
    return x[None], y[None]


@pytest.mark.parametrize(("tokens", "suffix"), [(320, ""), (153, "_153tok")])
def test_channel_level_terms_agree_with_the_reference(tokens: int, suffix: str) -> None:
    x, y = features(tokens)
    torch.testing.assert_close(content_term(x, y)[0], GOLDEN[f"content_x_y{suffix}"], rtol=1e-5, atol=0)
    torch.testing.assert_close(style_term(x, y)[0], GOLDEN[f"style_x_y{suffix}"], rtol=1e-5, atol=0)


def test_token_level_terms_agree_with_the_reference() -> None:
    x, y = features()
    torch.testing.assert_close(content_term(x, y, over="channels")[0], GOLDEN["content_token"], rtol=1e-5, atol=0)
    torch.testing.assert_close(style_term(x, y, over="channels")[0], GOLDEN["style_token"], rtol=1e-5, atol=0)


def test_the_paper_and_the_release_differ_in_the_deviation() -> None:
    x, y = features()
    released, published = style_term(x, y), style_term(x, y, deviation="population")
    assert (released / published - 1).abs().item() > 1e-3


def test_content_ignores_the_style_and_plain_features_do_not() -> None:
    x = torch.randn(1, 2, 40, 8, generator=torch.Generator().manual_seed(0))
    restyled = x * 3 + 2
    assert content_term(x, restyled).item() < 1e-6
    assert feature_term(x, restyled).item() > 1
    assert style_term(instance_norm(x), instance_norm(restyled)).item() < 1e-6


def test_blocks_of_different_length_equal_a_plain_loop() -> None:
    draw = torch.Generator().manual_seed(1)
    shapes = [(2, 12, 4)] * 3 + [(2, 7, 4)] * 2 + [(2, 12, 4), (2, 5, 8)]
    xs, ys = ([torch.randn(s, generator=draw) for s in shapes] for _ in range(2))
    for term in (style_term, content_term, feature_term):
        plain = torch.cat([term(x[None], y[None]) for x, y in zip(xs, ys, strict=True)])
        together = per_block(xs, ys, term)
        torch.testing.assert_close(together, plain)
        torch.testing.assert_close(over_layers(together, "sum"), over_layers(together, "mean") * len(shapes))


def test_style_of_a_constant_channel_has_a_finite_gradient() -> None:
    x = torch.ones(1, 1, 6, 2, requires_grad=True)
    style_term(x, torch.rand(1, 1, 6, 2)).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
