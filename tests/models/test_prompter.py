"""The invertible prompter against the reference vectors, and its algebra."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.models.prompter import Coupling, Prompter
from reference import golden_array, golden_file, golden_input

KEY = "backbone.blocks.0.align_adapter_rgb2tir."


@pytest.fixture(scope="module")
def reference_prompter() -> Prompter:
    prompter = Prompter(dim=768)
    weights = {
        key: torch.from_numpy(golden_array(KEY + key, tuple(value.shape)))
        for key, value in prompter.state_dict().items()
    }
    prompter.load_state_dict(weights)
    return prompter.requires_grad_(False)


def test_both_directions_agree_with_the_reference(reference_prompter: Prompter) -> None:
    golden = golden_file("ipl_prompter")
    tokens = torch.from_numpy(golden_input("ipl.prompter.input", (1, 320, 768)))
    generated = reference_prompter.reverse(tokens)
    results = {
        "prompt_reverse": generated,
        "reconstruction_forward": reference_prompter(generated),
        "forward": reference_prompter(tokens),
    }
    for name, ours in results.items():
        torch.testing.assert_close(ours[:, :64], torch.from_numpy(golden[name]), atol=1e-4, rtol=0)
    assert float((reference_prompter(generated) - tokens).abs().max()) < 1e-5
    assert float((reference_prompter.reverse(reference_prompter(tokens)) - tokens).abs().max()) < 1e-5
    assert float((generated - tokens).abs().max()) > 0.1  # it does something


@settings(max_examples=25, deadline=None)
@given(dim=st.sampled_from([2, 6, 16]), tokens=st.integers(1, 5), seed=st.integers(0, 2**16), gain=st.floats(0.1, 3))
def test_it_is_invertible_whatever_its_weights(dim: int, tokens: int, seed: int, gain: float) -> None:
    torch.manual_seed(seed)
    prompter = Prompter(dim=dim).double().requires_grad_(False)
    for parameter in prompter.parameters():
        parameter.mul_(gain)
    x = torch.randn(2, tokens, dim, dtype=torch.float64)
    torch.testing.assert_close(prompter(prompter.reverse(x)), x, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(prompter.reverse(prompter(x)), x, atol=1e-9, rtol=1e-9)


def test_an_odd_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="7 is odd"):
        Coupling(dim=7)
