"""CKD against the reference vectors, and its behaviour on small networks."""

from functools import partial

import pytest
import torch

from duotrack.models.ckd import CKD
from duotrack.models.elimination import removed_positions
from duotrack.models.head import CenterHead
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, build_on_meta
from reference import golden_array, golden_file, golden_input, manifest

SMALL = partial(VisionTransformer, template_size=32, search_size=64, dim=32, depth=4, heads=2)


def small_ckd(**options: object) -> CKD:
    torch.manual_seed(0)
    settings = {"stages": (1, 2), **options}
    return CKD(branch=SMALL, head=lambda inputs: CenterHead(inputs=inputs, channels=16), **settings)  # type: ignore[arg-type]


def small_inputs(batch: int = 2) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    image = lambda size: torch.randn(batch, 3, size, size, generator=generator)  # noqa: E731
    return {"template": (image(32), image(32)), "search": (image(64), image(64))}


@pytest.fixture(scope="module")
def reference_net() -> CKD:
    """ckd-base with the reference weights."""
    net = build_on_meta(MODELS["ckd-base"])
    weights = {
        key: torch.from_numpy(golden_array(key, tuple(shape)))
        for key, shape in manifest("ckd_state_dict")["inference"].items()
    }
    net.load_state_dict(weights, assign=True)
    return net.eval()


@pytest.mark.parametrize(
    ("form", "entries", "parameters"), [("inference", 394, 183_871_365), ("training", 878, 368_908_431)]
)
def test_state_dict_is_the_official_one(form: str, entries: int, parameters: int) -> None:
    net = build_on_meta(MODELS["ckd-base"], teachers=form == "training")
    ours = {key: list(value.shape) for key, value in net.state_dict().items()}
    assert ours == manifest("ckd_state_dict")[form]
    assert len(ours) == entries
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_forward_parity_with_elimination(reference_net: CKD) -> None:
    golden = golden_file("ckd_a_mce")
    crop = lambda name, size: torch.from_numpy(golden_input(f"ckd.{name}", (1, 3, size, size)))  # noqa: E731
    with torch.inference_mode():
        out = reference_net(
            template=(crop("rgb.template", 128), crop("tir.template", 128)),
            search=(crop("rgb.search", 256), crop("tir.search", 256)),
        )
    for name in ("score_map", "size_map", "offset_map"):
        torch.testing.assert_close(getattr(out, name), torch.from_numpy(golden[name]), atol=1e-4, rtol=0)
    for name in ("rgb", "tir"):
        ours = removed_positions(out.kept["aux" if name == "tir" else "rgb"], 256)
        for stage in range(3):
            assert set(ours[stage][0].tolist()) == set(golden[f"removed_{name}_{stage}"].ravel().tolist())
    assert out.features is not None
    assert out.features.shape == (1, 320, 1536)
    checks = {
        "feat_first64": out.features.flatten()[:64],
        "feat_template_token0": out.features[0, 0],
        "feat_search_strided": out.features[0, 64:, ::32],
    }
    for name, ours_part in checks.items():
        torch.testing.assert_close(
            ours_part, torch.from_numpy(golden[name]).reshape(ours_part.shape), atol=1e-4, rtol=0
        )
    assert float(out.features.mean()) == pytest.approx(float(golden["feat_mean"]), abs=1e-5)
    assert float(out.features.std(correction=0)) == pytest.approx(float(golden["feat_std"]), abs=1e-5)


@pytest.mark.parametrize("elimination", ["mce", "ce", "none"])
def test_elimination_modes(elimination: str) -> None:
    net = small_ckd(elimination=elimination).eval()
    with torch.inference_mode():
        out = net(**small_inputs())
    assert out.score_map.shape == (2, 1, 4, 4)
    assert out.features is not None
    zero = [(out.features[:, 4:, half] == 0).all(-1) for half in (slice(0, 32), slice(32, 64))]
    dropped = 16 - 9 if elimination != "none" else 0  # 16 -> 12 -> 9
    assert [int(z.sum()) for z in zero] == [2 * dropped] * 2
    same = all(torch.equal(a, b) for a, b in zip(out.kept["rgb"], out.kept["aux"], strict=True))
    assert same == (elimination != "ce")


def test_unknown_elimination_is_refused() -> None:
    with pytest.raises(ValueError, match="mce, ce, none"):
        small_ckd(elimination="some")


def test_missing_modality_takes_the_others_features() -> None:
    net = small_ckd().eval()
    inputs = small_inputs()
    with torch.inference_mode():
        by_none = net(template=inputs["template"], search=(inputs["search"][0], None))
        by_name = net(**inputs, available=("rgb",))
    assert by_none.features is not None
    assert by_name.features is not None
    torch.testing.assert_close(by_none.features, by_name.features)
    torch.testing.assert_close(by_none.features[..., :32], by_none.features[..., 32:])
    assert list(by_none.kept) == ["rgb"]


def test_a_modality_without_template_takes_the_others() -> None:
    net = small_ckd().eval()
    inputs = small_inputs()
    with torch.inference_mode():
        alone = net(template=(inputs["template"][0], None), search=(None, inputs["search"][1]))
        given = net(template=(None, inputs["template"][0]), search=(None, inputs["search"][1]))
    torch.testing.assert_close(alone.score_map, given.score_map)


@pytest.mark.parametrize("gap", ["search", "template"])
def test_nothing_to_look_at_is_an_error(gap: str) -> None:
    inputs: dict[str, object] = {**small_inputs(), gap: (None, None)}
    with pytest.raises(ValueError, match="both modalities are missing"):
        small_ckd()(**inputs)


def test_shared_student_equals_feeding_the_same_image_twice() -> None:
    net = small_ckd(shared=True, elimination="none").eval()
    inputs = small_inputs()
    rgb_t, rgb_s = inputs["template"][0], inputs["search"][0]
    with torch.inference_mode():
        one = net(template=(rgb_t, None), search=(rgb_s, None))
        two = net(template=(rgb_t, rgb_t), search=(rgb_s, rgb_s))
    torch.testing.assert_close(one.score_map, two.score_map)
    assert not any(key.startswith(("rgb_branch", "tir_branch")) for key in net.state_dict())


def test_training_form_runs_teachers_in_train_mode_only() -> None:
    net = small_ckd(teachers=True)
    out = net.train()(**small_inputs())
    assert set(out.teachers) == {"rgb", "aux"}
    assert set(out.blocks) == {"rgb", "aux", "teacher_rgb", "teacher_aux"}
    counts = {name: [x.shape[1] for x in blocks] for name, blocks in out.blocks.items()}
    assert set(map(tuple, counts.values())) == {(20, 16, 13, 13)}  # 4 template tokens + 16, 12, 9, 9
    assert not net.eval()(**small_inputs()).teachers


def test_no_gradient_through_the_elimination_score() -> None:
    net = small_ckd(elimination="mce").train()
    out = net(**small_inputs())
    assert all(not positions.requires_grad for stage in out.kept.values() for positions in stage)
    out.score_map.sum().backward()
    unused = {name for name, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert unused == {key for key in unused if ".conv" in key}  # only the size and offset towers did not contribute


def test_masked_search_tokens_reach_students_only() -> None:
    net = small_ckd(teachers=True, elimination="none").train()
    for module in net.modules():
        if hasattr(module, "drop_path"):
            module.drop_path = 0.0
    inputs = small_inputs()
    keep = torch.zeros(2, 16, dtype=torch.bool)
    plain, masked = net(**inputs), net(**inputs, search_keep=keep)
    torch.testing.assert_close(plain.blocks["teacher_rgb"][-1], masked.blocks["teacher_rgb"][-1])
    assert not torch.allclose(plain.blocks["rgb"][-1], masked.blocks["rgb"][-1])


def test_drop_path_is_stochastic_in_training_only() -> None:
    torch.manual_seed(0)
    net = CKD(
        branch=partial(SMALL, drop_path=0.9), head=lambda c: CenterHead(inputs=c, channels=16), elimination="none"
    )
    inputs = small_inputs(batch=8)
    net.eval()
    torch.testing.assert_close(net(**inputs).score_map, net(**inputs).score_map)
    net.train()
    assert not torch.equal(net(**inputs).blocks["rgb"][-1], net(**inputs).blocks["rgb"][-1])


def test_a_batch_that_mixes_availability_equals_one_by_one() -> None:
    net = small_ckd().eval()
    inputs = small_inputs(batch=4)
    present = torch.tensor([[True, False], [True, True], [False, True], [True, True]])
    with torch.inference_mode():
        mixed = net(**inputs, present=present)
        for i, (rgb, aux) in enumerate(present.tolist()):
            names = tuple(name for name, there in (("rgb", rgb), ("aux", aux)) if there)
            one = {key: (pair[0][i : i + 1], pair[1][i : i + 1]) for key, pair in inputs.items()}
            alone = net(**one, available=names)
            torch.testing.assert_close(mixed.score_map[i : i + 1], alone.score_map)
    with pytest.raises(ValueError, match="missing in a sample"):
        net(**inputs, present=torch.zeros(4, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="training form"):
        small_ckd(teachers=True).train()(**inputs, present=present)


def test_content_only_hands_normalised_tokens_to_the_head() -> None:
    net = small_ckd(content_only=True, elimination="none").eval()
    with torch.inference_mode():
        out = net(**small_inputs())
    assert out.features is not None
    torch.testing.assert_close(out.features.mean(dim=1), torch.zeros_like(out.features[:, 0]), atol=1e-4, rtol=0)
