"""Networks behind `torch.compile`, with its eager back-end: what is compiled when, not by what."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from duotrack.errors import InputError
from duotrack.runtime import compiled
from duotrack.runtime.compiled import CompiledNet
from duotrack.runtime.deploy import deploy
from small_net import GEOMETRY, small_ckd


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    return CompiledNet(deploy(small_ckd()), device=torch.device("cpu"))


def ask(net: CompiledNet, count: int) -> torch.Tensor:
    z, x = (torch.full((count, 3, side, side), 0.5) for side in (GEOMETRY.template_size, GEOMETRY.search_size))
    return net(template=net.remember((z, z)), search=(x, x), available=("rgb", "aux")).score_map


def test_a_thread_may_meet_more_shapes_than_torch_compiles_by_itself(net):
    limit = torch._dynamo.config.recompile_limit
    with ThreadPoolExecutor(1) as pool:
        for count in range(1, limit + 3):
            assert pool.submit(ask, net, count).result().shape[0] == count
    assert torch._dynamo.config.recompile_limit == limit  # other users' limit is theirs


def test_threads_that_share_a_network_make_each_form_once(net, monkeypatch):
    making, whole = [], compiled.compiled_call

    def counted(call):
        making.append(threading.get_ident())
        return whole(call)

    monkeypatch.setattr(compiled, "compiled_call", counted)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(partial(ask, net), [2] * 4)
    assert len(making) == 1
    assert all(torch.equal(first, other) for other in others)


def test_cuda_without_triton_is_said_before_the_first_frame(monkeypatch):
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="Triton"):
        CompiledNet(deploy(small_ckd()), device=torch.device("cuda"))
