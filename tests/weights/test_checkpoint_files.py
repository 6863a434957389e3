"""Checkpoint files: what reads, what is refused, and that refusal is always an InputError."""

import contextlib
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from duotrack.errors import InputError
from duotrack.weights.read import read_checkpoint


def mae_like() -> dict[str, torch.Tensor]:
    """The keys by which an MAE encoder is known, tiny."""
    return {
        "pos_embed": torch.arange(20.0).reshape(1, 5, 4),
        "patch_embed.proj.weight": torch.randn(4, 3, 2, 2),
        "blocks.0.mlp.fc1.weight": torch.randn(8, 4),
        "norm.weight": torch.ones(4),
    }


class Settings:
    """Stands for a trainer's own class, pickled into its checkpoints."""

    def __init__(self) -> None:
        self.path = "somewhere"
        self.parts = [torch.zeros(2)]


def trainer_checkpoint() -> dict[str, Any]:
    """As the OSTrack and CKD trainers save."""
    return {
        "epoch": 30,
        "net_type": "OSTrack",
        "net": OrderedDict(mae_like()),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": []},
        "settings": Settings(),
        "stats": None,
    }


FORMATS = {"zip": True, "legacy": False}


def save(value: object, path: Path, form: str = "zip", **options: Any) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=FORMATS[form], **options)
    return path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_trainers_checkpoint_is_read_without_its_classes(tmp_path: Path, form: str, protocol: int) -> None:
    checkpoint = read_checkpoint(save(trainer_checkpoint(), tmp_path / "a.pth.tar", form, pickle_protocol=protocol))
    assert checkpoint.kind == "mae"
    assert checkpoint.metadata == {"epoch": "30", "net_type": "OSTrack"}
    assert "member 'net'" in checkpoint.container
    assert any("Settings" in line for line in checkpoint.ignored)
    assert any(line.startswith("optimizer") for line in checkpoint.ignored)
    for key, tensor in mae_like().items():
        assert checkpoint.tensors[key].shape == tensor.shape
    assert torch.equal(checkpoint.tensors["pos_embed"], mae_like()["pos_embed"])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_every_element_type(tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    tensors = mae_like() | {"norm.bias": torch.tensor([0, 1, 1, 0, 1]).to(dtype)}
    found = read_checkpoint(save(tensors, tmp_path / "a.pt", form)).tensors["norm.bias"]
    assert found.dtype == dtype
    assert torch.equal(found, tensors["norm.bias"])


@pytest.mark.parametrize("form", FORMATS)
def test_views_transposes_empty_and_shared_storages(tmp_path: Path, form: str) -> None:
    base = torch.arange(24.0)
    views = {
        "norm.a": base[3:7],
        "norm.b": base.reshape(4, 6).t(),
        "norm.c": base[::5],
        "norm.d": torch.zeros(0, 3),
        "norm.e": torch.tensor(2.5),
        "norm.f": torch.zeros(1).expand(50, 50),
        "norm.g": torch.nn.Parameter(base[20:]),
    }
    found = read_checkpoint(save(mae_like() | views, tmp_path / "a.pt", form)).tensors
    for key, tensor in views.items():
        assert torch.equal(found[key], tensor), key


def test_old_storage_views(tmp_path: Path) -> None:
    # before 0.4 a storage could be a window of another: (key, offset, size) after the element count
    def build(window: tuple[int, int]) -> bytes:
        class Persistent(pickle.Pickler):
            def persistent_id(self, value: object) -> object:
                return value[1:] if isinstance(value, tuple) and value[:1] == ("pid",) else None

        class Call:
            def __init__(self, *args: object) -> None:
                self.args = args

            def __reduce__(self) -> Any:
                return torch._utils._rebuild_tensor, self.args

        pid = ("pid", "storage", torch.FloatStorage, "k", "cpu", 8, ("v", *window))
        entries = {key: Call(pid, 0, (2,), (1,)) for key in mae_like()}
        stream = io.BytesIO()
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
        for value in (0x1950A86A20F9469CFC6C, 1001, system):
            pickle.dump(value, stream, 2)
        Persistent(stream, 2).dump(entries)
        pickle.dump(["k"], stream, 2)
        return stream.getvalue() + struct.pack("<q8f", 8, *range(8))

    (tmp_path / "a.pt").write_bytes(build((5, 3)))
    assert read_checkpoint(tmp_path / "a.pt").tensors["pos_embed"].tolist() == [5, 6]
    for window in ((7, 2), (5, 1)):
        (tmp_path / "b.pt").write_bytes(build(window))
        with pytest.raises(InputError):
            read_checkpoint(tmp_path / "b.pt")


def test_safetensors_of_others(tmp_path: Path) -> None:
    tensors = mae_like() | {"decoder_embed.weight": torch.zeros(2, 4), "mask_token": torch.zeros(1, 1, 2)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"made by": "someone"})
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.kind == "mae"
    assert checkpoint.metadata == {"made by": "someone"}
    assert set(checkpoint.tensors) == set(mae_like())
    assert "decoder_embed" in checkpoint.ignored[0]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net.", "model.", "net._orig_mod.module."])
def test_wrapper_prefixes_are_cut(tmp_path: Path, prefix: str) -> None:
    path = save({"state_dict": {prefix + key: t for key, t in mae_like().items()}}, tmp_path / "a.ckpt")
    assert set(read_checkpoint(path).tensors) == set(mae_like())


def test_a_checkpoint_without_checksums_reads(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(mae_like(), tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(path).kind == "mae"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello world", "neither safetensors nor a PyTorch checkpoint"),
        (b"\n <!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"PK\x03\x04 nothing more", "truncated or damaged"),
        (b"\x80", "neither"),
        (b"\x80\x02garbage", "pickle"),
        (pickle.dumps({"a": 1}, 2), "not one that torch.save wrote"),
        (struct.pack("<Q", 10**15) + b"{}", "header"),
        (struct.pack("<Q", 2) + b"{}", "no known kind"),
        (struct.pack("<Q", 8) + b"{'a': 1}", "header"),
        (b"\x1b[31m\x00\x01\x02", "neither"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_checkpoint(tmp_path / "x.pth")
    assert "\x1b" not in str(caught.value)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "a folder at"), (tmp_path / "missing.pth", "no checkpoint at")):
        with pytest.raises(InputError, match=words):
            read_checkpoint(path)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "empty"),
        ([1, 2], "list of 2 entries"),
        (torch.zeros(2), "holds a tensor, not"),
        (Settings(), "Settings"),
        ({"net": {**mae_like(), "x": Settings()}}, "entry x is an object of class .*Settings"),
        ({"net": {**mae_like(), 3: torch.zeros(1)}}, "entry 3"),
        ({**mae_like(), "x": 1.5}, "entry x is float"),
        ({"epoch": 1}, "entry epoch is int"),
        ({"state_dict": {"layer4.conv.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}}, r"layer4 \(1\), fc \(1\)"),
    ],
)
def test_what_holds_no_weights(tmp_path: Path, form: str, value: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_checkpoint(save(value, tmp_path / "a.pt", form))


def rewritten(path: Path, out: Path, change: Callable[[str, bytes], bytes | None], compression: int = 0) -> Path:
    """A zip checkpoint with changed records and right checksums."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", compression) as new:
        for info in old.infolist():
            data = change(info.filename, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return out


def same(_: str, data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, data: None if name.endswith("data.pkl") else data, "no data.pkl"),
        (lambda name, data: None if "/data/" in name else data, "missing from the zip"),
        (lambda name, data: data[:-4] if "/data/" in name else data, "bytes, not"),
        (lambda name, data: data + bytes(4) if "/data/" in name else data, "bytes, not"),
        (lambda name, data: b"big" if name.endswith("byteorder") else data, "big-endian"),
        (lambda name, data: data[:-30] if name.endswith("data.pkl") else data, "cut off"),
        (lambda name, data: b"" if name.endswith("data.pkl") else data, "cut off"),
        (lambda name, data: b"\xff" * 9 if name.endswith("data.pkl") else data, "opcode"),
        (lambda name, data: data.replace(b"FloatStorage", b"OtherStorage"), "unknown type"),
    ],
)
def test_zip_records_that_do_not_fit(tmp_path: Path, change: Callable[[str, bytes], bytes | None], words: str) -> None:
    path = rewritten(save(mae_like(), tmp_path / "a.pt"), tmp_path / "b.pt", change)
    with pytest.raises(InputError, match=words):
        read_checkpoint(path)


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    path = rewritten(save(mae_like(), tmp_path / "a.pt"), tmp_path / "b.pt", same, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        read_checkpoint(path)


class _Tensor:
    """Pickles as a tensor with any offset, size and stride over a storage of 8 floats."""

    def __init__(self, storage: torch.Tensor, *layout: object) -> None:
        self.args = (storage, *layout, False, OrderedDict())

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.args


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "layout",
    [
        (0, (9,), (1,)),
        (8, (1,), (1,)),
        (1 << 61, (1,), (1,)),
        (0, (2, 5), (4, 1)),
        (0, (1 << 40,), (1,)),
        (0, (1 << 40,), (0,)),
        (0, (1 << 30, 1 << 30, 1 << 30), (0, 0, 0)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (1,) * 40, (0,) * 40),
        (0.0, (1,), (1,)),
        (0, 1, 1),
        (True, (1,), (1,)),
    ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path: Path, form: str, layout: tuple[Any, ...]) -> None:
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(8).untyped_storage(), dtype=torch.float32, _internal=True
    )
    path = save(mae_like() | {"norm.bias": _Tensor(storage, *layout)}, tmp_path / "a.pt", form)
    with pytest.raises(InputError, match="cannot read the checkpoint"):
        read_checkpoint(path)


def test_a_forged_storage_size_is_refused(tmp_path: Path) -> None:
    def change(name: str, data: bytes) -> bytes:
        # BININT1 20 (elements of pos_embed) -> BININT1 200, before the tuple of the persistent id ends
        return data.replace(b"K\x14tq", b"K\xc8tq") if name.endswith("data.pkl") else data

    path = rewritten(save(mae_like(), tmp_path / "a.pt"), tmp_path / "b.pt", change)
    with pytest.raises(InputError, match="80 bytes, not 200 elements"):
        read_checkpoint(path)


@pytest.mark.parametrize("form", FORMATS)
def test_a_malicious_checkpoint_does_nothing(tmp_path: Path, form: str) -> None:
    target = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> Any:
            return exec, (f"open({str(target)!r}, 'w').close()",)

    path = save({"net": mae_like(), "settings": Evil()}, tmp_path / "a.pt", form)
    assert any("exec" in line for line in read_checkpoint(path).ignored)
    path = save(mae_like() | {"norm.bias": Evil()}, tmp_path / "b.pt", form)
    with pytest.raises(InputError, match=r"norm\.bias is an object of class"):
        read_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the payload works where pickles are executed
    assert target.exists()


def safetensors_bytes(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 400]}},
        {"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": {"dtype": "NONE", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
        {"a": [1, 2, 3]},
        [],
    ],
)
def test_safetensors_with_a_lying_header(tmp_path: Path, header: object) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(header, bytes(16)))
    with pytest.raises(InputError):
        read_checkpoint(tmp_path / "a.safetensors")


def test_an_exotic_element_type_is_refused(tmp_path: Path) -> None:
    save_file(mae_like() | {"norm.bias": torch.zeros(4).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="F8_E4M3"):
        read_checkpoint(tmp_path / "a.safetensors")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("intact")
    files = {form: save(trainer_checkpoint(), folder / f"{form}.pt", form).read_bytes() for form in FORMATS}
    save_file(mae_like(), folder / "a.safetensors")
    return files | {"safetensors": (folder / "a.safetensors").read_bytes()}


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_give_input_errors_or_read(
    tmp_path: Path, intact: dict[str, bytes], form: str, data: st.DataObject
) -> None:
    content = bytearray(intact[form])
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3), label="flips") if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read_checkpoint(path)


def test_a_flipped_weight_in_a_zip_is_noticed(tmp_path: Path, intact: dict[str, bytes]) -> None:
    content = bytearray(intact["zip"])
    at = content.index(struct.pack("<4f", 0, 1, 2, 3))
    content[at + 5] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        read_checkpoint(tmp_path / "a.pt")
