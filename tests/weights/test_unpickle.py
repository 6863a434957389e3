"""The pickle interpreter: builds plain values, executes nothing, and fails in one way only."""

import contextlib
import io
import os
import pickle
import struct
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.weights.described import DamagedError, Inert, TensorRef
from duotrack.weights.unpickle import unpickle

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)


@given(value=plain, protocol=st.sampled_from([3, 4, 5]))
@settings(max_examples=100, deadline=None)
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    found = unpickle(data)
    assert found.value == value
    assert found.end == len(data)


def test_an_ordered_dict_is_a_dict() -> None:
    for protocol in (2, 4):
        assert unpickle(pickle.dumps(OrderedDict(a=1, b=[2]), protocol)).value == {"a": 1, "b": [2]}


def test_old_python_strings_are_text() -> None:
    assert unpickle(b"\x80\x02(U\x01aT\x02\x00\x00\x00bc\x94t.").value == ("a", "bc")


class _Runs:
    """A pickle of this calls `function(*args)` when it is read by the library."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def _attacks(target: Path) -> dict[str, bytes]:
    touch = f"touch {target}"
    code = f"open({str(target)!r}, 'w').close()"
    text = touch.encode()
    word = b"X" + struct.pack("<I", len(text)) + text
    getattr_chain = (
        b"\x80\x02cbuiltins\ngetattr\n(cbuiltins\n__import__\nX\x08\x00\x00\x00__call__tR"
        b"(X\x02\x00\x00\x00ostR0cbuiltins\ngetattr\n(cos\nsystem\nX\x08\x00\x00\x00__call__tR(" + word + b"tR."
    )
    return {
        "os.system": pickle.dumps(_Runs(os.system, touch), 2),
        "builtins.eval": pickle.dumps(_Runs(eval, code), 2),
        "builtins.exec": pickle.dumps({"net": _Runs(exec, code)}, 4),
        "subprocess": pickle.dumps([_Runs(subprocess.call, ["touch", str(target)])], 5),
        "nested": pickle.dumps(_Runs(list, _Runs(map, os.system, [touch])), 2),
        "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + word + b"\x85R.",
        "inst": b"(" + word + b"iposix\nsystem\n.",
        "obj": b"(cposix\nsystem\n" + word + b"o.",
        "newobj": b"\x80\x02csubprocess\nPopen\n]" + word + b"a\x85\x81.",
        "newobj_ex": b"\x80\x04csubprocess\nPopen\n)}X\x04\x00\x00\x00args" + word + b"s\x92.",
        "getattr chain": getattr_chain,
        "setstate": b"\x80\x02ccollections\nOrderedDict\n)R}"
        b"X\x0c\x00\x00\x00__setstate__cposix\nsystem\nsb" + word + b"b.",
        "append": b"\x80\x02cposix\nsystem\n(" + word + b"e.",
    }


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    for name, data in _attacks(target).items():
        with contextlib.suppress(DamagedError):
            unpickle(data)
        assert not target.exists(), name
    # the payloads work where a pickle is executed, otherwise this test would prove nothing
    pickle.loads(_attacks(target)["stack global"])
    assert target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__)sb.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x05\x00\x00\x00popedK\x01sb.",
        b"\x80\x02ctorch\nFloatStorage\n}X\x05\x00\x00\x00dtypeNsb.",
    ],
    ids=["function", "class", "storage type"],
)
def test_a_pickle_cannot_change_what_is_allowed(data: bytes) -> None:
    with pytest.raises(DamagedError):
        unpickle(data)


class _Settings:
    def __init__(self) -> None:
        self.items = [1, 2]


def test_an_unknown_class_becomes_a_placeholder() -> None:
    found = unpickle(pickle.dumps({"settings": _Settings(), "epoch": 3, "seen": {1, 2}}, 4))
    assert isinstance(found.value, dict)
    assert isinstance(found.value["settings"], Inert)
    assert found.value["settings"].what.endswith("_Settings")
    assert found.value["epoch"] == 3
    assert sum(found.inert.values()) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b".",
        b"\x80\x02h\x05.",
        b"\x80\x02a.",
        b"\x80\x02t.",
        b"\x80\x02]K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02K\x01)a.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x04\x8d" + b"\xff" * 8 + b".",
        b"\x80\x05\x96" + b"\xff" * 8 + b".",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        b"\x80\x02cnot\xffutf8\nname\n.",
        b"\x80\x02cno end of line",
        b"\x80\x02K\x01Q.",
        b"\x80\x02X\x03\x00\x00\x00abcQ.",
        b"\x80\x02\x82\x01.",
        b"I01\n.",
        b"\x80\x04K\x01K\x02\x93.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.",
        b"\x80\x02ccollections\nOrderedDict\n(]K\x01atR.",
        b"\x80\x02\x96",
    ],
)
def test_garbage_is_reported(data: bytes) -> None:
    with pytest.raises(DamagedError):
        unpickle(data)


def test_a_huge_memo_index_reserves_nothing() -> None:
    assert unpickle(b"\x80\x02K\x07r\xff\xff\xff\xff0j\xff\xff\xff\xff.").value == 7


def test_endless_nesting_is_harmless() -> None:
    depth = 200_000
    unpickle(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    unpickle(b"\x80\x02" + b"(" * depth + b"N" + b"t" * depth + b".")
    deep_key = b"\x80\x02})" + b"\x85" * depth + b"K\x01s."  # hashing this tuple would overflow the C stack
    value = unpickle(deep_key).value
    assert isinstance(value, dict)
    assert len(value) == 1


def test_a_list_may_hold_itself() -> None:
    value = unpickle(b"\x80\x02]q\x00h\x00a.").value
    assert isinstance(value, list)
    assert value[0] is value


def test_endless_pickles_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duotrack.weights.unpickle.MAX_STEPS", 1000)
    with pytest.raises(DamagedError, match="more than 1000 steps"):
        unpickle(b"\x80\x02" + b"N0" * 1000 + b"N.")


@given(data=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_value_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(DamagedError):
        unpickle(b"\x80\x02" + data)


def test_tensors_are_described_not_made() -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.nn.Parameter(torch.zeros(3, 2).t())}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    at = 0
    for _ in range(3):  # magic, protocol, system
        at = unpickle(data, at).end
    found = unpickle(data, at)
    assert isinstance(found.value, dict)
    ref = found.value["w"]
    assert isinstance(ref, TensorRef)
    assert (ref.size, ref.stride, ref.offset) == ((2, 3), (1, 2), 0)
    assert ref.storage.dtype == torch.float32
    assert list(found.storages) == [ref.storage.key]
