"""Checkpoints that are not ours: every tensor by where it stands, and the part that fits a network."""

import collections

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from duotrack.errors import InputError
from duotrack.weights.foreign import find_part, read_foreign


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


@pytest.mark.parametrize("legacy", [False, True])
def test_nested_dictionaries(tmp_path, legacy):
    path = tmp_path / "a.pth"
    state = linear().state_dict()
    saved = {
        "epoch": 3,
        "net": {"module": collections.OrderedDict(state)},
        "lr": [torch.ones(1)],
        "alone": torch.ones(2),
    }
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    found = read_foreign(path)
    assert found.keys() == {"net.module.weight", "net.module.bias", "alone"}
    assert torch.equal(found["net.module.weight"], state["weight"])


def test_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(linear().state_dict(), path)
    assert torch.equal(read_foreign(path)["bias"], linear().bias)


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"", "empty"), (b"PK\x03\x04nothing", "damaged"), (b"hello world", "neither"), (None, "no checkpoint")],
)
def test_what_cannot_be_read(tmp_path, data, what):
    path = tmp_path / "a.pth"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=what):
        read_foreign(path)


def test_no_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds no dictionary of tensors"):
        read_foreign(tmp_path / "a.pth")


def test_a_dictionary_that_holds_itself_ends(tmp_path):
    state = {"weight": torch.ones(1)}
    state["again"] = state
    torch.save(state, tmp_path / "a.pth")
    assert set(read_foreign(tmp_path / "a.pth")) == {"again." * depth + "weight" for depth in range(5)}


def test_dictionaries_that_hold_one_another_many_times_are_refused(tmp_path):
    inner = {"weight": torch.ones(1)}
    for _ in range(4):
        inner = {f"{i}": inner for i in range(40)}
    torch.save(inner, tmp_path / "a.pth")
    with pytest.raises(InputError, match="more than 100000 entries"):
        read_foreign(tmp_path / "a.pth")


def state_at(prefix, seed=0):
    return {prefix + key: tensor for key, tensor in linear(seed).state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "any.where.module."])
def test_the_part_that_fits(prefix):
    tensors = state_at(prefix) | ({"other.weight": torch.zeros(5)} if prefix else {})
    found = find_part(tensors, linear(1), "file")
    assert torch.equal(found["weight"], linear().weight)
    assert found.keys() == {"weight", "bias"}


def test_the_outer_of_two_parts_counts_and_wrappers_are_no_depth():
    tensors = state_at("a.b.", seed=1) | state_at("c.module.", seed=2)
    assert torch.equal(find_part(tensors, linear(), "file")["bias"], linear(2).bias)


def test_two_parts_equally_far_out_are_ambiguous():
    with pytest.raises(InputError, match=r"file: model\., ema\. fit Linear equally"):
        find_part(state_at("model.") | state_at("ema."), linear(), "file")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"weight": torch.zeros(2, 3)},
        {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)},
        state_at("a.") | {"a.more": torch.zeros(1)},
    ],
    ids=["nothing", "a key less", "another shape", "a key more"],
)
def test_nothing_fits(tensors):
    with pytest.raises(InputError, match="file: nothing in it fits Linear, which wants 2 tensors like weight, bias"):
        find_part(tensors, linear(), "file")


def test_a_network_without_weights_wants_none():
    assert find_part({"a": torch.ones(1)}, nn.Identity(), "file") == {}
