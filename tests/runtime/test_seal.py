"""An export says whether its numbers are still those that were exported."""

import pytest

from duotrack.errors import InputError
from duotrack.runtime.export import export_model
from duotrack.runtime.seal import check_seal, seal
from duotrack.runtime.sessions import open_session


@pytest.fixture(params=[".onnx", ".xml"])
def files(request, tmp_path):
    """The file that is named, and the one with the numbers."""
    named = tmp_path / f"net{request.param}"
    numbers = named.with_suffix(".bin") if request.param == ".xml" else named
    named.write_bytes(b"<net/>" * 50)
    numbers.write_bytes(bytes(range(256)) * 20_000)  # more than is read at a time
    return named, numbers


def damage(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_is_as_it_was_passes(files):
    named, numbers = files
    check_seal(named)  # none yet: a file of an earlier version
    before = numbers.read_bytes()
    seal(named)
    assert numbers.read_bytes().startswith(before)
    check_seal(named)


@pytest.mark.parametrize("at", [0, 3_000_000, 5_119_999, -1], ids=["first", "inside", "last", "in the digest"])
def test_one_bit_is_noticed(files, at):
    named, numbers = files
    seal(named)
    damage(numbers, at)
    with pytest.raises(InputError, match="was changed since it was exported"):
        check_seal(named)


def test_ir_and_numbers_of_another_export_are_noticed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.xml").write_bytes(name.encode())
        (tmp_path / f"{name}.bin").write_bytes(b"numbers")
        seal(tmp_path / f"{name}.xml")
    (tmp_path / "one.bin").write_bytes((tmp_path / "two.bin").read_bytes())
    with pytest.raises(InputError, match="was changed"):
        check_seal(tmp_path / "one.xml")


@pytest.mark.parametrize("size", [0, 1, 50])
def test_files_too_short_for_a_digest_are_left_to_their_readers(tmp_path, size):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"x" * size)
    check_seal(path)


@pytest.mark.parametrize(("suffix", "backend"), [(".onnx", "onnxruntime"), (".onnx", "openvino"), (".xml", "openvino")])
def test_back_ends_refuse_an_export_whose_weights_were_damaged(zoo, tmp_path, suffix, backend):
    pytest.importorskip(backend)
    pytest.importorskip("onnxscript")
    path = export_model("small", tmp_path / f"small{suffix}").path
    open_session(path, backend=backend)
    numbers = path.with_suffix(".bin") if suffix == ".xml" else path
    weights = (tmp_path / numbers.name).read_bytes()
    damage(numbers, len(weights) // 2)
    with pytest.raises(InputError, match="damaged"):
        open_session(path, backend=backend)
