"""How published networks are called: order, ranges, sizes, weights; with small stand-ins of their interfaces."""

import pickle
import sys

import pytest
import torch
from torch import nn

from duotrack.errors import InputError
from duotrack.fusion.choose import ExpertSource, open_expert
from duotrack.fusion.luma import luma_of

CODE = """
import torch
from torch import nn

class InfraredFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.norm = nn.BatchNorm2d(1)
    def forward(self, ir, vi):
        assert ir.shape == vi.shape and ir.shape[1] == 1 and not self.training
        self.sides = ir.shape[2:]
        return self.weight[0] * ir + self.weight[1] * vi + 0 * self.norm(ir)

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.scale = Fusion(), nn.Parameter(torch.zeros(1))
    def forward(self, image):
        return self.base(image * self.scale), image, image

class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(3))
    def forward(self, image):
        return image * self.gain[0]

class Detail(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(2, 2))
    def forward(self, image):
        return image * self.gain[0, 0]

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(3, 1))
    def forward(self, vis, base, detail):
        return self.mix[0] * vis + self.mix[1] * base + self.mix[2] * detail, "features"

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.base, self.detail, self.decoder = Encoder(), Fusion(), Detail(), Decoder()

class Sampler(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
    def forward(self, ir, vi):
        assert len(ir) == 1
        return self.weight * ir + 0.01 * torch.randn(ir.shape)

def text():
    return "no network"
"""

RGB, AUX = torch.rand(2, 3, 20, 40), torch.rand(2, 3, 20, 40)
Y, T = luma_of(RGB), AUX.mean(1, keepdim=True)


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    (tmp_path / "fusion_stand_ins.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("fusion_stand_ins", None)


def opened(name, weights, code=None, **more):
    return open_expert(ExpertSource(name=name, weights=weights, code=code, **more))


def infrared_first(folder, thermal, visible):
    """A checkpoint of the stand-in, as a training script would keep it."""
    path = folder / "net.pth"
    state = {
        "module.weight": torch.tensor([thermal, visible]),
        "module.norm.weight": torch.ones(1),
        "module.norm.bias": torch.zeros(1),
        "module.norm.running_mean": torch.zeros(1),
        "module.norm.running_var": torch.ones(1),
        "module.norm.num_batches_tracked": torch.tensor(5),
    }
    torch.save({"model": state, "optimizer": {"lr": 0.1}, "epoch": 3}, path)
    return path


@pytest.mark.parametrize(("name", "divisor"), [("emma", 32), ("tardal", 1)])
@pytest.mark.parametrize(("thermal", "visible"), [(1.0, 0.0), (0.25, 0.75)])
def test_infrared_first(stand_ins, name, divisor, thermal, visible):
    expert = opened(name, infrared_first(stand_ins, thermal, visible), "fusion_stand_ins:InfraredFirst")
    fused = expert(RGB, AUX)
    grey = torch.full_like(RGB, 0.5)
    torch.testing.assert_close(expert(grey, AUX)[:, :1], thermal * T + visible * 0.5, rtol=0, atol=1e-5)
    assert fused.shape == RGB.shape
    assert expert.divisor == divisor
    assert not expert.slow


def test_no_stretching_to_the_full_range(stand_ins):
    """A dim picture stays dim: template and search region must go together."""
    expert = opened("emma", infrared_first(stand_ins, 0.1, 0.1), "fusion_stand_ins.py:InfraredFirst")
    grey = torch.full_like(RGB, 0.5)
    assert expert(grey, grey).max() < 0.11


def test_another_black(stand_ins):
    path = infrared_first(stand_ins, 1.0, 0.0)
    expert = opened("tardal", path, "fusion_stand_ins:InfraredFirst", black=-1.0)
    grey = torch.full_like(RGB, 0.5)
    torch.testing.assert_close(expert(grey, AUX)[:, :1], (T + 1) / 2, rtol=0, atol=1e-5)


def test_cddfuse_finds_its_parts_in_the_file_whatever_they_are_called(stand_ins):
    """The encoder holds a block that the base fusion's weights would fit as well: the outer one counts."""
    path = stand_ins / "cdd.pth"
    parts = {
        "first": {"module.base.gain": torch.tensor([2.0, 0, 0]), "module.scale": torch.tensor([0.5])},
        "second": {"module.mix": torch.tensor([[0.1], [0.2], [0.3]])},
        "third": {"module.gain": torch.tensor([0.7, 0, 0])},
        "fourth": {"module.gain": torch.tensor([[0.9, 0], [0, 0]])},
    }
    torch.save(parts, path)
    expert = opened("cddfuse", path, "fusion_stand_ins:Whole")
    grey = torch.full_like(RGB, 0.5)
    y = torch.full_like(T, 0.5)
    wanted = 0.1 * y + 0.2 * 0.7 * (y + T) + 0.3 * 0.9 * (y + T)
    torch.testing.assert_close(expert(grey, AUX)[:, :1], wanted, rtol=0, atol=1e-5)


def test_ddfm_is_slow_seeded_and_takes_each_sample_alone(stand_ins):
    path = stand_ins / "prior.pth"
    torch.save({"weight": torch.ones(1)}, path)
    expert = opened("ddfm", path, "fusion_stand_ins:Sampler")
    assert expert.slow
    before = torch.get_rng_state()
    fused = expert(RGB, AUX)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(expert(RGB, AUX), fused)
    assert torch.equal(expert(RGB[1:], AUX[1:]), fused[1:])
    grey = torch.full_like(RGB, 0.5)
    torch.testing.assert_close(expert(grey, AUX)[:, :1], T, rtol=0, atol=0.05)  # -1 to 1 and back, but for the noise


class Mixed(nn.Module):
    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return 0.25 * ir + 0.75 * vi


def test_torchscript(tmp_path):
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(Mixed()), str(path))
    expert = opened("emma", path)
    grey = torch.full_like(RGB, 0.5)
    torch.testing.assert_close(expert(grey, AUX)[:, :1], 0.25 * T + 0.375, rtol=0, atol=1e-5)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a checkpoint ran code')",))


def test_nothing_in_a_checkpoint_is_run(stand_ins):
    path = stand_ins / "bomb.pth"
    torch.save({"weight": torch.ones(1), "extra": Bomb()}, path)
    assert opened("ddfm", path, "fusion_stand_ins:Sampler").name == "ddfm"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="cannot read the checkpoint"):
        opened("ddfm", path, "fusion_stand_ins:Sampler")


def test_version_follows_the_weights(stand_ins):
    versions = {
        opened("emma", infrared_first(stand_ins, gain, 0.0), "fusion_stand_ins:InfraredFirst").version
        for gain in (0.5, 0.6, 0.5)
    }
    assert len(versions) == 2


def test_what_does_not_fit(stand_ins):
    path = infrared_first(stand_ins, 1.0, 0.0)
    with pytest.raises(InputError, match=r"net\.pth: nothing in it fits Sampler, which wants 1 tensors like weight"):
        opened("ddfm", path, "fusion_stand_ins:Sampler")
    with pytest.raises(InputError, match="has no encoder, base, detail, decoder"):
        opened("cddfuse", path, "fusion_stand_ins:InfraredFirst")
    with pytest.raises(InputError, match="returned str, not a"):
        opened("emma", path, "fusion_stand_ins:text")
    with pytest.raises(InputError, match="no TorchScript file"):
        opened("emma", path)
    with pytest.raises(InputError, match=r"no weights of expert tardal at .*away\.pth"):
        opened("tardal", stand_ins / "away.pth", "fusion_stand_ins:InfraredFirst")
