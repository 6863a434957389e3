"""Strict loading, building by name, saving."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.models.ckd import CKD
from duotrack.models.zoo import MODELS
from duotrack.weights.build import build_from, build_net, fit, model_for, model_shapes
from duotrack.weights.keymap import FITS, KINDS
from duotrack.weights.read import Checkpoint, read_checkpoint
from duotrack.weights.report import KeyReport, compare, load_weights, shapes_of
from duotrack.weights.safetensor import save_weights
from reference import manifest


def zeros(shapes: dict[str, list[int]], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Zeros of full size that repeat one element: no memory, a few kB on disk."""
    weight, count = torch.zeros((), dtype=dtype), torch.zeros((), dtype=torch.int64)
    return {key: (count if key.endswith("tracked") else weight).expand(shape) for key, shape in shapes.items()}


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    torch.save({"epoch": 1, "net": tensors}, path)
    return path


def mae() -> dict[str, Tensor]:
    backbone = {k.removeprefix("backbone."): s for k, s in manifest("ostrack_state_dict").items() if "backbone." in k}
    return zeros({k: s for k, s in backbone.items() if k not in ("pos_embed_z", "pos_embed_x")})


def droptrack() -> dict[str, Tensor]:
    grids = {"backbone.pos_embed_z": [1, 144, 768], "backbone.pos_embed_x": [1, 576, 768]}
    temporal = {f"backbone.temporal_pos_embed_{which}": [1, 1, 768] for which in "xz"}
    return zeros(manifest("ostrack_state_dict") | grids | temporal)


@pytest.mark.parametrize("teachers", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("source", ["inference", "training", "ostrack", "droptrack", "mae"])
def test_every_official_key_has_its_place(tmp_path: Path, source: str, prefix: str, teachers: bool) -> None:
    tensors = {
        "inference": lambda: zeros(manifest("ckd_state_dict")["inference"]),
        "training": lambda: zeros(manifest("ckd_state_dict")["training"]),
        "ostrack": lambda: zeros(manifest("ostrack_state_dict")),
        "droptrack": droptrack,
        "mae": mae,
    }[source]()
    path = saved({prefix + key: tensor for key, tensor in tensors.items()}, tmp_path / "a.pth.tar")
    assert path.stat().st_size < 1_000_000
    checkpoint = read_checkpoint(path, teachers=teachers)
    if source == "inference" and teachers:
        with pytest.raises(InputError, match="needs teachers"):
            fit(checkpoint, "ckd-base", teachers=True)
        return
    fitted = fit(checkpoint, "ckd-base", teachers=teachers)
    wanted = {
        key: tuple(shape) for key, shape in manifest("ckd_state_dict")["training" if teachers else "inference"].items()
    }
    assert not compare(wanted, shapes_of(fitted.tensors), allow_missing=fitted.keeps)
    assert fitted.trained == (source in ("inference", "training"))
    if source == "mae":
        assert not any("head" in key for key in fitted.tensors)
    else:
        assert fitted.tensors.keys() == wanted.keys()
    if source == "training" and not teachers:
        assert "484 tensors (teachers" in checkpoint.ignored[-1]


def test_a_mae_file_with_its_decoder(tmp_path: Path) -> None:
    decoder = {"decoder_blocks.0.norm1.weight": torch.zeros(2), "mask_token": torch.zeros(1, 1, 2)}
    torch.save({"model": mae() | decoder}, tmp_path / "mae.pth")
    checkpoint = read_checkpoint(tmp_path / "mae.pth")
    assert checkpoint.kind == "mae"
    assert "member 'model'" in checkpoint.container
    assert checkpoint.ignored == ("2 tensors (not part of the encoder): decoder_blocks (1), mask_token (1)",)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_a_report_names_what_differs() -> None:
    wanted = {"a.x": (1,), "a.y": (2,), "a.z": (3,), "b.x": (4, 5)}
    report = compare(wanted, {"b.x": (5, 4), "\x1b[31mc": (1,)})
    assert report == KeyReport(("a.x", "a.y", "a.z"), ("\x1b[31mc",), (("b.x", (4, 5), (5, 4)),))
    assert str(report) == (
        "missing 3 (3 like a.x, a.y, ...); unexpected 1 (\\x1b[31mc); of other shape 1: b.x wants [4, 5], got [5, 4]"
    )
    assert not compare(wanted, wanted)
    assert str(KeyReport()) == "every key fits"


def test_a_report_stays_short() -> None:
    wanted = {f"family{i}.{j}" * 10: (1,) for i in range(100) for j in range(10)}
    got = {f"other{i}" * 100: (1,) for i in range(1000)} | dict.fromkeys(list(wanted)[:500], (2,))
    assert len(str(compare(wanted, got))) < 2000


def test_an_unrelated_file_is_refused_with_a_report() -> None:
    net = small()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(InputError, match=r"missing 6 .*unexpected 2 .*layer4"):
        load_weights(net, {"0.weight": torch.zeros(2, 2), "layer4.a": torch.zeros(1), "layer4.b": torch.zeros(1)})
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    tensors = {key: tensor.clone() for key, tensor in small().state_dict().items()}
    tensors["0.bias"][1] = value
    with pytest.raises(InputError, match=r"0\.bias holds"):
        load_weights(small(), tensors)


def test_integers_for_weights_are_refused() -> None:
    with pytest.raises(InputError, match="holds integers"):
        load_weights(small(), small().state_dict() | {"0.bias": torch.zeros(3, dtype=torch.int64)})


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_half_precision_is_cast_and_no_memory_is_shared(device: str) -> None:
    shared = torch.tensor([1.5, 2.5, 3.5])
    tensors = {"0.weight": torch.ones(3, 2, dtype=torch.float16), "0.bias": shared, "1.weight": shared}
    tensors |= {"1.bias": torch.zeros(1).expand(3), "1.running_mean": shared[:3], "1.running_var": shared * 2}
    tensors["1.num_batches_tracked"] = torch.tensor(4)
    with torch.device(device):
        net = small()
    load_weights(net, tensors)
    state = net.state_dict()
    assert all(torch.equal(state[key], tensor.to(state[key].dtype)) for key, tensor in tensors.items())
    assert state["0.weight"].dtype == torch.float32
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_what_may_be_missing_keeps_its_values() -> None:
    net = small()
    load_weights(
        net,
        {"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(3), "x.y": torch.zeros(1)},
        allow_missing=("1.",),
        allow_unexpected=("x.",),
    )
    assert float(net.state_dict()["1.weight"].sum()) == 3


def tiny_file(path: Path, **options: str) -> CKD:
    net = MODELS["ckd-tiny"].build().eval()
    save_weights(path, net, **({"model": "ckd-tiny", "elimination": "ce"} | options))  # type: ignore[arg-type]
    return net


def test_save_and_build_give_the_same_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = tiny_file(tmp_path / "a.safetensors")
    found = build_net("ckd-tiny", weights=tmp_path / "a.safetensors")
    assert not found.training
    assert found.elimination == "ce"
    assert build_net("ckd-tiny", weights=tmp_path / "a.safetensors", elimination="none").elimination == "none"
    for key, tensor in net.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key
    images = (torch.randn(1, 3, 96, 96), torch.randn(1, 3, 192, 192))
    net.elimination = "ce"
    with torch.inference_mode():
        first, second = (n(template=(images[0], None), search=(images[1], None)) for n in (net, found))
    # libraries sum in another order where numbers lie otherwise in memory
    torch.testing.assert_close(first.score_map, second.score_map)


@pytest.mark.parametrize(("dtype", "most"), [("fp16", 1e-3), ("bf16", 1e-2)])
def test_half_precision_files(tmp_path: Path, dtype: str, most: float) -> None:
    net = tiny_file(tmp_path / "full.safetensors")
    save_weights(
        tmp_path / "half.safetensors", net, model="ckd-tiny", elimination="none", dtype=dtype, extra={"a": "b"}
    )
    assert (tmp_path / "half.safetensors").stat().st_size < 0.51 * (tmp_path / "full.safetensors").stat().st_size
    checkpoint = read_checkpoint(tmp_path / "half.safetensors")
    assert checkpoint.metadata["dtype"] == dtype
    assert checkpoint.metadata["a"] == "b"
    found = build_from(checkpoint, "ckd-tiny").state_dict()
    for key, tensor in net.state_dict().items():
        assert found[key].dtype == tensor.dtype
        torch.testing.assert_close(found[key], tensor, rtol=most, atol=1e-6)


def test_what_float16_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="range of float16"):
        save_weights(
            tmp_path / "a.safetensors", {"w": torch.tensor([1e5])}, model="m", elimination="none", dtype="fp16"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"form": "other"}, {"dtype": "fp8"}])
def test_saving_with_unknown_options(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="got"):
        tiny_file(tmp_path / "a.safetensors", **options)
    assert list(tmp_path.iterdir()) == []


def test_teachers_are_saved_only_in_the_training_form(tmp_path: Path) -> None:
    net = MODELS["ckd-tiny"].build(teachers=True)
    save_weights(tmp_path / "t.safetensors", net, model="ckd-tiny", elimination="none", form="training")
    save_weights(tmp_path / "i.safetensors", net, model="ckd-tiny", elimination="none")
    assert read_checkpoint(tmp_path / "t.safetensors").tensors.keys() == net.state_dict().keys()
    assert read_checkpoint(tmp_path / "i.safetensors").tensors.keys() == model_shapes("ckd-tiny").keys()
    build_net("ckd-tiny", weights=tmp_path / "t.safetensors", teachers=True)
    build_net("ckd-tiny", weights=tmp_path / "t.safetensors")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr("duotrack.weights.safetensor.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(tmp_path / "a.safetensors", {"w": torch.zeros(1)}, model="m", elimination="none")
    assert list(tmp_path.iterdir()) == []


def test_a_starting_point_is_said_to_be_untrained(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = shared_data / "weights" / "hiera_tiny_stage1to3_fp16.safetensors"
    net = build_net("ckd-tiny", weights=path)
    assert "initialised, not trained" in caplog.text
    file = read_checkpoint(path).tensors["blocks.4.norm1.weight"]
    assert torch.equal(net.state_dict()["branch.blocks.0.norm1.weight"], file.float())


def test_no_weights_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        net = build_net("ckd-tiny", teachers=True)
    assert not net.training
    assert "random weights" in caplog.text


def kind(name: str, **metadata: str) -> Checkpoint:
    return Checkpoint(name, {}, metadata, "test", ())


@pytest.mark.parametrize(
    ("checkpoint", "model", "words"),
    [
        (kind("hiera"), "ckd-base", "cannot use hiera weights; they fit ckd-tiny"),
        (kind("droptrack"), "ckd-tiny", "cannot use droptrack weights; they fit ckd-base"),
        (kind("duotrack", model="ckd-tiny"), "ckd-base", "duotrack weights of ckd-tiny"),
        (kind("duotrack", model="ckd-base"), "ckd-tiny", "duotrack weights of ckd-base"),
        (kind("duotrack", model="ckd-tiny"), "ckd-tiny", "missing 224"),
        (kind("ckd-inference"), "ckd-base", "missing 394"),
        (kind("duotrack"), "ckd-bose", "did you mean 'ckd-base'"),
        (kind("duotrack", elimination="mxe"), "ckd-tiny", "ckd-tiny knows no elimination 'mxe'"),
    ],
)
def test_weights_for_another_model_are_refused(checkpoint: Checkpoint, model: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_from(checkpoint, model)


def test_every_model_says_which_weights_it_takes() -> None:
    assert FITS.keys() == MODELS.keys()
    assert {name for kinds in FITS.values() for name in kinds} == set(KINDS)


def test_only_our_own_metadata_sets_the_elimination() -> None:
    checkpoint = kind("hiera", elimination="nonsense")
    with pytest.raises(InputError, match="missing"):
        build_from(checkpoint, "ckd-tiny")


def test_a_file_of_an_unknown_model() -> None:
    with pytest.raises(InputError, match="ckd-next"):
        model_for(kind("duotrack", model="ckd-next"))


def test_an_untrained_conversion_stays_untrained() -> None:
    assert not fit(kind("duotrack", model="ckd-tiny", trained="no"), "ckd-tiny").trained


def test_content_only_travels_with_the_weights(tmp_path: Path) -> None:
    net = MODELS["ckd-tiny"].build(content_only=True)
    save_weights(tmp_path / "a.safetensors", net, model="ckd-tiny", elimination="none", dtype="fp16")
    assert build_net("ckd-tiny", weights=tmp_path / "a.safetensors").content_only is True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": None}, "name is None: give the name of a model"),
        ({"name": "ckd-tiny", "weights": 3}, "weights is 3: give a path"),
        ({"name": "ckd-tiny", "elimination": 3}, "elimination is 3: give 'mce'"),
        ({"name": "ckd-tiny", "teachers": "yes"}, "teachers is 'yes': give True"),
    ],
)
def test_arguments_of_other_types_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_net(**options)  # type: ignore[arg-type]
