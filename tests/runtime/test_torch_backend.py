"""Devices and precisions."""

import pytest
import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.models.outputs import NetOutput
from duotrack.runtime import torch_backend
from duotrack.runtime.torch_backend import prepare, resolve_device


class Probe(nn.Module):
    """One linear layer over the pixels' mean; remembers in which type it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 5)
        self.seen: list[torch.dtype] = []
        self.given: dict[str, object] = {}

    def forward(self, *, template, search, **options):
        self.seen = [image.dtype for image in (*template, *search) if image is not None]
        self.given = options
        image = next(image for image in search if image is not None)
        out = self.layer(image.mean((2, 3)))[:, :, None, None]
        return NetOutput(score_map=out[:, :1].sigmoid(), size_map=out[:, 1:3], offset_map=out[:, 3:5])


IMAGE = torch.rand(1, 3, 8, 8)


def ask(net):
    return net(template=(IMAGE, None), search=(None, IMAGE), available=("aux",))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_inside_only(precision, dtype):
    torch.manual_seed(0)
    probe = Probe().train()
    expected = ask(probe)
    net = prepare(probe, device=torch.device("cpu"), precision=precision)
    out = ask(net)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert set(probe.seen) == {dtype}
    assert probe.given == {"available": ("aux",)}
    for name in ("score_map", "size_map", "offset_map"):
        assert getattr(out, name).dtype == torch.float32
        torch.testing.assert_close(getattr(out, name), getattr(expected, name), atol=2e-2, rtol=2e-2)


def test_cpu_is_there():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cpu", "bf16") == torch.device("cpu")


@pytest.mark.parametrize(
    ("gpus", "asked", "got"),
    [(0, "auto", "cpu"), (2, "auto", "cuda"), (2, "cuda", "cuda"), (2, "cuda:1", "cuda:1"), (2, "cpu", "cpu")],
)
def test_devices(monkeypatch, gpus, asked, got):
    monkeypatch.setattr(torch_backend.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch_backend.torch.cuda, "device_count", lambda: gpus)
    assert resolve_device(asked) == torch.device(got)


@pytest.mark.parametrize(
    ("gpus", "device", "precision", "words"),
    [
        (0, "cuda", "fp32", "no CUDA GPU"),
        (2, "cuda:2", "fp32", "2 CUDA GPUs"),
        (2, "gpu", "fp32", "auto, cpu, cuda"),
        (2, "cuda:x", "fp32", "auto, cpu, cuda"),
        (2, "cpu:", "fp32", "auto, cpu, cuda"),
        (0, "mps", "fp32", "auto, cpu, cuda"),
        (0, "auto", "fp16", "use fp32, bf16 or int8"),
        (2, "cpu", "fp16", "use fp32, bf16 or int8"),
        (0, "cpu", "fp8", "fp16|fp32"),
        (0, "cpu", "half", "bf16"),
    ],
)
def test_what_is_not_there_is_refused(monkeypatch, gpus, device, precision, words):
    monkeypatch.setattr(torch_backend.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch_backend.torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InputError, match=words):
        resolve_device(device, precision)


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", False), ("bf16", True)])
def test_fp32_on_cuda_is_not_rounded_in_convolutions(precision, rounds, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch_backend.prepare(torch.nn.Identity(), device=torch.device("cuda"), precision=precision)  # nothing to move
    assert torch.backends.cudnn.allow_tf32 is rounds
