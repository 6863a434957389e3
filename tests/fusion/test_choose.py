"""From names to experts, and what happens where something is missing."""

import logging
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from duotrack.errors import InputError
from duotrack.fusion.adapter import ADAPTERS
from duotrack.fusion.cache import FrameCache, make_cache
from duotrack.fusion.choose import DEFAULT, ExpertSource, open_expert, open_experts
from duotrack.fusion.expert import MissingExpertError
from duotrack.fusion.rules import RULES
from duotrack.models.zoo import MODELS
from duotrack.weights.safetensor import save_weights

RGB, AUX = torch.rand(1, 3, 20, 24), torch.rand(1, 1, 20, 24)

CODE = """
import torch
def fuse(rgb, aux):
    return torch.maximum(rgb, aux.expand_as(rgb))
def grey(luma, thermal):
    return thermal
grey.name, grey.version, grey.divisor, grey.luma_only = "mine", 7, 8, True
def slowly(rgb, aux):
    return rgb
slowly.slow = True
number = 3
"""


def test_the_default_set_is_the_specifications():
    assert DEFAULT == ("laplacian", "guided", "gradmax")
    assert [expert.name for expert in open_experts(DEFAULT)] == list(DEFAULT)


@pytest.mark.parametrize("name", RULES)
def test_built_in(name):
    expert = open_expert(name)
    luma_and_back = expert(RGB, AUX)
    assert luma_and_back.shape == RGB.shape
    assert not expert.slow


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "my_fusion_rules.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_fusion_rules", None)


@pytest.mark.parametrize("where", ["my_fusion_rules", "my_fusion_rules.py"])
def test_user_code_from_the_working_folder_or_a_file(code, where):
    path = list(sys.path)
    expert = open_expert(f"{where}:fuse")
    assert torch.equal(expert(RGB, AUX), torch.maximum(RGB, AUX.expand_as(RGB)))
    assert sys.path == path
    mine = open_expert(f"{where}:grey")
    assert (mine.name, mine.version, mine.divisor, mine.luma_only) == ("mine", "7", 8, True)
    assert mine(RGB, AUX).shape == RGB.shape


BAD = [
    ("laplacien", "did you mean 'laplacian'"),
    ("no_such_module_at_all:fuse", "cannot import no_such_module_at_all"),
    ("nowhere.py:fuse", "no code at nowhere.py"),
    ("my_fusion_rules:absent", "no function absent"),
    ("my_fusion_rules:number", "no function number"),
    ("my_fusion_rules:", "MODULE:FUNCTION"),
    (":fuse", "MODULE:FUNCTION"),
    ("tpf-tiny", "has no weights in the package.*--expert average"),
    ("ckd-tiny", "no expert is called 'ckd-tiny'"),
    ("emma", "needs weights"),
    ("cache:", "no cache of fused frames"),
]


@pytest.mark.parametrize(("name", "what"), BAD, ids=[name for name, _ in BAD])
def test_unusable_names(code, name, what):
    with pytest.raises(InputError, match=what):
        open_expert(name)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ({"name": "max", "weights": "w.pth"}, "takes no weights"),
        ({"name": "max", "code": "a:b"}, "takes no code"),
        ({"name": "tpf-tiny", "black": -1}, "takes no code and no black level"),
    ],
)
def test_options_that_belong_to_others(source, what):
    with pytest.raises(InputError, match=what):
        open_expert(ExpertSource.model_validate(source))


def test_a_source_knows_its_fields():
    with pytest.raises(ValidationError):
        ExpertSource.model_validate({"name": "max", "wieghts": "w"})


def test_missing_weights_name_the_file_or_are_skipped_with_one_word(tmp_path, caplog):
    sources = ["average", ExpertSource(name="emma", weights=tmp_path / "emma.pth"), f"cache:{tmp_path / 'ddfm'}", "max"]
    with pytest.raises(MissingExpertError, match=r"weights of expert emma at .*emma\.pth"):
        open_experts(sources)
    with caplog.at_level(logging.WARNING):
        experts = open_experts(sources, on_missing="skip")
    assert [expert.name for expert in experts] == ["average", "max"]
    assert len(caplog.records) == 2
    assert "emma.pth" in caplog.messages[0]
    assert "cache.json" in caplog.messages[1]


def test_what_is_wrong_rather_than_missing_is_never_skipped():
    with pytest.raises(InputError, match="no expert is called"):
        open_experts(["max", "laplacien"], on_missing="skip")


def test_no_expert_left_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no expert is left \(asked for: none\)"):
        open_experts([])
    with pytest.raises(InputError, match=r"no expert is left \(asked for: emma\)"):
        open_experts([ExpertSource(name="emma", weights=tmp_path / "no")], on_missing="skip")


def test_twice_or_too_slow(code):
    with pytest.raises(InputError, match="named twice"):
        open_experts(["max", "average", "max"])
    with pytest.raises(InputError, match="cache"):
        open_experts(["max", "my_fusion_rules.py:slowly"])
    assert open_expert("my_fusion_rules.py:slowly").slow


def test_a_cache_among_experts(tmp_path):
    make_cache(tmp_path / "c", "ddfm", "1")
    experts = open_experts(["max", f"cache:{tmp_path / 'c'}"])
    assert isinstance(experts[1], FrameCache)
    assert experts[1].name == "ddfm"


def test_adapter_with_weights(tmp_path):
    assert set(ADAPTERS) == {"tpf-base", "tpf-tiny"}
    net = MODELS["tpf-tiny"].build().eval()
    with torch.no_grad():
        net.fusion.head.bias.copy_(torch.tensor([3.0, 0.1, 0.0, -2.0]))
    path = tmp_path / "tiny.safetensors"
    save_weights(path, net, model="tpf-tiny", elimination="none")
    expert = open_expert(ExpertSource(name="tpf-tiny", weights=path))
    with torch.no_grad():
        wanted = net.fusion(RGB, AUX).clamp(0, 1)
    torch.testing.assert_close(expert(RGB, AUX), wanted, rtol=0, atol=1e-6)
    assert np.isclose(float(expert(RGB, AUX)[:, 2].max()), 0, atol=0.05)  # tanh(-2) leaves next to nothing
    with pytest.raises(MissingExpertError, match=r"weights of tpf-tiny at .*no\.safetensors"):
        open_expert(ExpertSource(name="tpf-tiny", weights=tmp_path / "no.safetensors"))
    with pytest.raises(InputError, match="tpf-base cannot use"):
        open_expert(ExpertSource(name="tpf-base", weights=path))
