"""The chunked scan against its definition, in values and gradients; the optional kernel's call."""

import importlib.util
import sys
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from duotrack.models.scan import default_chunk, loop_scan, selective_scan

LENGTHS = (1, 5, 63, 64, 65, 1024)
Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def arguments(
    length: int, *, batch: int = 2, width: int = 6, states: int = 4, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Arguments:
    """Unit-scale u, delta, a, b, c that want gradients."""
    draw = torch.Generator().manual_seed(seed)
    u = torch.randn(batch, length, width, generator=draw, dtype=dtype)
    delta = F.softplus(torch.randn(batch, length, width, generator=draw, dtype=dtype) - 3)
    a = -torch.arange(1, states + 1, dtype=dtype).repeat(width, 1) * torch.rand(width, 1, generator=draw, dtype=dtype)
    b, c = (torch.randn(batch, length, states, generator=draw, dtype=dtype) for _ in range(2))
    return tuple(x.requires_grad_() for x in (u, delta, a, b, c))  # type: ignore[return-value]


def gradients(y: Tensor, wanted: Arguments) -> tuple[Tensor, ...]:
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return torch.autograd.grad((y * weights).sum(), wanted)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_equal_the_loop(length: int, batch: int, recompute: bool) -> None:
    given = arguments(length, batch=batch)
    y, oracle = selective_scan(*given, recompute=recompute), loop_scan(*given)
    torch.testing.assert_close(y, oracle, atol=1e-5, rtol=0)
    made, expected = gradients(y, given), gradients(oracle, given)
    for name, ours, theirs in zip(["u", "delta", "a", "b", "c"], made, expected, strict=True):
        scale = max(float(theirs.abs().max()), 1.0)  # a sums over the whole batch and sequence
        torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(1, 40),
    chunk=st.integers(1, 50),
    batch=st.integers(1, 3),
    recompute=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_length_any_chunk(length: int, chunk: int, batch: int, recompute: bool, seed: int) -> None:
    given = arguments(length, batch=batch, width=3, states=2, dtype=torch.float64, seed=seed)
    y, oracle = selective_scan(*given, chunk=chunk, recompute=recompute), loop_scan(*given)
    torch.testing.assert_close(y, oracle, atol=1e-12, rtol=0)
    for ours, theirs in zip(gradients(y, given), gradients(oracle, given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("chunk", [None, 1, 3, 16])
def test_gradcheck(chunk: int | None, recompute: bool) -> None:
    given = arguments(11, batch=2, width=2, states=3, dtype=torch.float64)
    assert gradcheck(lambda *x: selective_scan(*x, chunk=chunk, recompute=recompute), given)


def test_long_decay_neither_overflows_nor_vanishes_into_nan() -> None:
    """The log decay of a chunk reaches thousands here: a form that divides by a product of decays would be infinite."""
    u, delta, a, b, c = (x.detach() for x in arguments(4096, batch=1, width=4, states=4))
    given = tuple(x.detach().requires_grad_() for x in (u, delta * 30, a * 10, b, c))
    assert float((given[1].detach().sum(1).max() * a.min()).abs()) > 5000
    y = selective_scan(*given)
    torch.testing.assert_close(y, loop_scan(*given), atol=1e-4, rtol=1e-5)
    assert all(g.isfinite().all() for g in gradients(y, given))


def test_a_sequence_equals_its_pieces_without_padding_or_a_neighbour_in_the_batch() -> None:
    given = [x.detach() for x in arguments(50, batch=3)]
    whole = selective_scan(*given, chunk=7)
    alone = selective_scan(*(x if x.shape[0] == 6 else x[1:2] for x in given), chunk=7)
    begun = selective_scan(*(x if x.shape[0] == 6 else x[:, :23] for x in given), chunk=7)
    torch.testing.assert_close(whole[1:2], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole[:, :23], begun, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("length", "chunk"), [(1, 1), (5, 2), (256, 16), (1024, 32), (4096, 64), (4608, 64)])
def test_default_chunk_is_the_power_of_two_nearest_the_root(length: int, chunk: int) -> None:
    assert default_chunk(length) == chunk


@pytest.mark.parametrize("backend", ["chunk", "loop"])
def test_half_precision_goes_in_and_out_but_the_scan_is_wide(backend: str) -> None:
    given = arguments(300)
    narrow = [x.detach().bfloat16() for x in given]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(*narrow, backend=backend)
    assert y.dtype == torch.bfloat16
    wide = selective_scan(*(x.float() for x in narrow), backend=backend)
    assert torch.equal(y, wide.bfloat16())


def test_backward_ignores_autocast() -> None:
    given = arguments(100)
    plain = gradients(selective_scan(*given), given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(*given)
        cast = gradients(y, given)
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


def test_recomputation_keeps_no_states() -> None:
    """Bytes that autograd holds between forward and backward."""

    def held(recompute: bool) -> int:
        seen: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            selective_scan(*arguments(1024, batch=1, width=32, states=16), recompute=recompute)
        return sum(seen.values())

    states = 1024 * 32 * 16 * 4
    assert held(False) > states
    assert held(True) < states / 4


def test_the_second_derivative_is_refused_not_wrong() -> None:
    given = arguments(8)
    (first,) = torch.autograd.grad(selective_scan(*given).square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("options", "message"), [({"backend": "chunks"}, "chunk, loop, mamba_ssm"), ({"chunk": 0}, "at least one step")]
)
def test_unknown_ways_are_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        selective_scan(*arguments(4), **options)  # type: ignore[arg-type]


def stand_in_for_mamba_ssm(seen: list[tuple[torch.Size, ...]]) -> ModuleType:
    """A module with the signature and layout of mamba_ssm's function (channels before time), computing by the loop."""

    def selective_scan_fn(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None = None,
        z: Tensor | None = None,
        delta_bias: Tensor | None = None,
        delta_softplus: bool = False,
        return_last_state: bool = False,
    ) -> Tensor:
        assert D is None
        assert z is None
        assert delta_bias is None
        assert not delta_softplus
        assert not return_last_state
        assert all(x.is_contiguous() and x.dtype == torch.float32 for x in (u, delta, B, C))
        seen.append((u.shape, delta.shape, A.shape, B.shape, C.shape))
        return loop_scan(u.mT, delta.mT, A, B.mT, C.mT).mT

    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = selective_scan_fn  # type: ignore[attr-defined]
    return module


def test_the_kernel_is_called_in_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Size, ...]] = []
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    name = "mamba_ssm.ops.selective_scan_interface"
    monkeypatch.setitem(sys.modules, name, stand_in_for_mamba_ssm(seen))
    given = arguments(70)
    y = selective_scan(*given, backend="mamba_ssm")
    torch.testing.assert_close(y, selective_scan(*given), atol=1e-5, rtol=0)
    assert seen == [((2, 6, 70), (2, 6, 70), (6, 4), (2, 4, 70), (2, 4, 70))]
    for ours, theirs in zip(gradients(y, given), gradients(loop_scan(*given), given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("mamba_ssm") is None or not torch.cuda.is_available(),
    reason="needs the package mamba-ssm and a CUDA device",
)
def test_the_real_kernel_agrees() -> None:
    given = tuple(x.detach().cuda().requires_grad_() for x in arguments(1024, width=64, states=16))
    y, ours = selective_scan(*given, backend="mamba_ssm"), selective_scan(*given)
    torch.testing.assert_close(y, ours, atol=1e-4, rtol=0)
    for one, other in zip(torch.autograd.grad(y.sum(), given), torch.autograd.grad(ours.sum(), given), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("mambapy") is None, reason="needs the package mambapy")
def test_agrees_with_mambapy() -> None:
    from mambapy.mamba import MambaBlock

    given = arguments(333, width=8, states=16)
    theirs = MambaBlock.selective_scan(None, *given, torch.zeros(8))
    ours = selective_scan(*given)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for one, other in zip(gradients(ours, given), gradients(theirs, given), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
