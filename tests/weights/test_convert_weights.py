"""Published weights into our keys: grids, teachers, fused head, Hiera."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from duotrack.errors import InputError
from duotrack.models.zoo import MODELS, build_on_meta
from duotrack.weights.convert import droptrack_to_ostrack, hiera_to_tiny, init_ckd, mae_to_branch, resize_grid
from duotrack.weights.keymap import hiera_key, identify, plain_keys
from duotrack.weights.read import read_checkpoint
from reference import golden_array, golden_file, golden_input, manifest


def grid_of(name: str, tokens: int) -> Tensor:
    return torch.from_numpy(golden_input(name, (1, tokens, 768)))


def close(found: Tensor, wanted: np.ndarray) -> None:  # type: ignore[type-arg]
    np.testing.assert_allclose(found[..., :8].reshape(wanted.shape).numpy(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("key", "side"), [("pos_bicubic_16", 16), ("pos_bicubic_8", 8)])
def test_bicubic_positions_are_the_references(key: str, side: int) -> None:
    grid = grid_of("posembed.vit", 197)[:, 1:]
    close(resize_grid(grid, side, mode="bicubic"), golden_file("ckd_g_targets")[key])
    derived = mae_to_branch({"pos_embed": grid_of("posembed.vit", 197)})
    close(derived["pos_embed_x" if side == 16 else "pos_embed_z"], golden_file("ckd_g_targets")[key])


@pytest.mark.parametrize(
    ("which", "tokens", "key"), [("x", 576, "pos_bilinear_24_16"), ("z", 144, "pos_bilinear_12_8")]
)
def test_bilinear_positions_are_the_references(which: str, tokens: int, key: str) -> None:
    tensors = {"backbone.pos_embed_z": torch.zeros(1, 144, 768), "backbone.pos_embed_x": torch.zeros(1, 576, 768)}
    tensors[f"backbone.pos_embed_{which}"] = grid_of(f"posembed.drop.{which}", tokens)
    close(droptrack_to_ostrack(tensors)[f"backbone.pos_embed_{which}"], golden_file("ckd_g_targets")[key])


def test_the_temporal_embedding_is_added_to_every_token() -> None:
    tensors = {
        "backbone.pos_embed_z": torch.zeros(1, 144, 4, dtype=torch.float16),
        "backbone.pos_embed_x": torch.ones(1, 576, 4),
        "backbone.temporal_pos_embed_z": torch.tensor([[[1.0, 2, 3, 4]]]),
        "backbone.temporal_pos_embed_x": torch.tensor([[[10.0, 20, 30, 40]]]),
        "backbone.norm.bias": torch.tensor([7.0]),
    }
    result = droptrack_to_ostrack(tensors)
    assert set(result) == {"backbone.pos_embed_z", "backbone.pos_embed_x", "backbone.norm.bias"}
    assert torch.equal(result["backbone.pos_embed_z"], torch.tensor([1.0, 2, 3, 4]).expand(1, 64, 4))
    assert torch.equal(result["backbone.pos_embed_x"], torch.tensor([11.0, 21, 31, 41]).expand(1, 256, 4))


def test_grids_of_the_right_size_pass_unchanged() -> None:
    tensors = {"backbone.pos_embed_z": torch.randn(1, 64, 4), "backbone.pos_embed_x": torch.randn(1, 256, 4)}
    result = droptrack_to_ostrack(tensors)
    assert all(torch.equal(result[key], tensor) for key, tensor in tensors.items())


@pytest.mark.parametrize("shape", [(1, 10, 4), (2, 16, 4), (16, 4), (1, 0, 4), (1, 10**6, 1)])
def test_what_is_no_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="square grid"):
        resize_grid(torch.zeros(shape), 8, mode="bilinear")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"backbone.pos_embed_z": torch.zeros(1, 64, 4)},
        {
            "backbone.pos_embed_z": torch.zeros(1, 64, 4),
            "backbone.pos_embed_x": torch.zeros(1, 256, 4),
            "backbone.temporal_pos_embed_z": torch.zeros(1, 1, 5),
        },
    ],
)
def test_incomplete_droptrack(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(InputError):
        droptrack_to_ostrack(tensors)


def test_mae_without_positions() -> None:
    with pytest.raises(InputError, match="pos_embed"):
        mae_to_branch({"norm.weight": torch.zeros(1)})


@pytest.mark.parametrize(("teachers", "form"), [(False, "inference"), (True, "training")])
def test_ostrack_gives_every_key_of_ckd(teachers: bool, form: str) -> None:
    source = {key: torch.empty(shape, device="meta") for key, shape in manifest("ostrack_state_dict").items()}
    result = init_ckd(source, teachers=teachers)
    assert {key: list(tensor.shape) for key, tensor in result.items()} == manifest("ckd_state_dict")[form]


def test_the_fused_head_sees_both_modalities_twice() -> None:
    source = {
        "backbone.norm.weight": torch.tensor([1.0]),
        "box_head.conv1_ctr.0.weight": torch.randn(3, 2, 1, 1),
        "box_head.conv1_ctr.0.bias": torch.randn(3),
        "box_head.conv2_ctr.0.weight": torch.randn(3, 2, 1, 1),
    }
    result = init_ckd(source, teachers=True)
    wide, narrow = result["box_head.conv1_ctr.0.weight"], source["box_head.conv1_ctr.0.weight"]
    assert torch.equal(wide[:, :2], narrow)
    assert torch.equal(wide[:, 2:], narrow)
    for head in ("box_head_v", "box_head_i"):
        assert torch.equal(result[f"{head}.conv1_ctr.0.weight"], narrow)
    assert torch.equal(result["box_head.conv2_ctr.0.weight"], source["box_head.conv2_ctr.0.weight"])
    assert torch.equal(result["box_head.conv1_ctr.0.bias"], source["box_head.conv1_ctr.0.bias"])
    branches = ("rgb_branch", "tir_branch", "teacher_rgb", "teacher_tir")
    assert all(torch.equal(result[f"{branch}.norm.weight"], torch.tensor([1.0])) for branch in branches)


@pytest.mark.parametrize(("teachers", "form"), [(False, "inference"), (True, "training")])
def test_ckd_base_has_the_official_keys_and_shapes(teachers: bool, form: str) -> None:
    net = build_on_meta(MODELS["ckd-base"], teachers=teachers)
    found = {key: list(tensor.shape) for key, tensor in net.state_dict().items()}
    assert found == manifest("ckd_state_dict")[form]


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("patch_embed.proj.weight", "branch.stem.patch_embed.proj.weight"),
        ("pos_embed", "branch.stem.pos_embed"),
        ("pos_embed_window", "branch.stem.pos_embed_window"),
        ("blocks.0.norm1.weight", "branch.stem.blocks.0.norm1.weight"),
        ("blocks.3.proj.bias", "branch.stem.blocks.3.proj.bias"),
        ("blocks.3.mlp.layers.1.bias", "branch.stem.blocks.3.mlp.fc2.bias"),
        ("blocks.4.mlp.layers.0.weight", "branch.blocks.0.mlp.fc1.weight"),
        ("blocks.9.attn.qkv.weight", "branch.blocks.5.attn.qkv.weight"),
    ],
)
def test_hiera_keys(key: str, wanted: str) -> None:
    assert hiera_key(key) == wanted


@pytest.mark.parametrize("teachers", [False, True])
def test_the_real_hiera_file_fits_ckd_tiny(shared_data: Path, teachers: bool) -> None:
    checkpoint = read_checkpoint(shared_data / "weights" / "hiera_tiny_stage1to3_fp16.safetensors")
    assert checkpoint.kind == "hiera"
    mapped = hiera_to_tiny(checkpoint.tensors, teachers=teachers)
    assert len(mapped) == len(checkpoint.tensors) * (3 if teachers else 1)
    wanted = build_on_meta(MODELS["ckd-tiny"], teachers=teachers).state_dict()
    assert {key: wanted[key].shape for key in mapped} == {key: tensor.shape for key, tensor in mapped.items()}
    left = {key.split(".")[1] for key in wanted if key not in mapped and not key.startswith("box_head")}
    assert left == {"pos_embed_z", "pos_embed_x", "norm"}


def test_kinds_are_known_by_their_keys() -> None:
    ostrack = {key: tuple(shape) for key, shape in manifest("ostrack_state_dict").items()}
    ckd = manifest("ckd_state_dict")
    droptrack = ostrack | {"backbone.temporal_pos_embed_x": (1, 1, 768)}
    cases = {
        "ostrack": ostrack,
        "droptrack": droptrack,
        "ckd-inference": ckd["inference"],
        "ckd-training": ckd["training"],
        "mae": {key.removeprefix("backbone."): shape for key, shape in ostrack.items() if key.startswith("backbone.")},
        "duotrack": build_on_meta(MODELS["ckd-tiny"]).state_dict(),
    }
    for kind, shapes in cases.items():
        assert identify(shapes, {}) == kind
    assert identify(ostrack | {"backbone.pos_embed_x": (1, 576, 768)}, {}) == "droptrack"
    assert identify({}, {"format": "duotrack"}) == "duotrack"
    with pytest.raises(InputError, match=r"layer1 \(2\).*known kinds: duotrack, ckd-training"):
        identify({"layer1.weight": (1,), "layer1.bias": (1,)}, {})


def test_only_a_prefix_of_all_keys_is_cut() -> None:
    assert plain_keys(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}
    assert plain_keys([]) == {}


def test_golden_weights_go_through_the_mapping() -> None:
    # the reference rule makes a tensor from its name: a mapped tensor is still that of its old name
    key = "backbone.blocks.0.norm1.weight"
    source = {key: torch.from_numpy(golden_array(key, (768,)))}
    assert torch.equal(init_ckd(source, teachers=False)["tir_branch.blocks.0.norm1.weight"], source[key])
