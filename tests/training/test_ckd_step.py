"""A whole CKD training step against the reference: losses, gradients, what is dropped, what never gets a gradient.

The training form of ckd-base has 369 million parameters; it is built once.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from duotrack.models.ckd import CKD
from duotrack.models.elimination import removed_positions
from duotrack.models.outputs import NetOutput
from duotrack.models.zoo import MODELS, build_on_meta
from duotrack.training.losses import task_loss
from duotrack.training.methods.ckd import CKDSettings, between_students, ckd_step, forward, from_teachers
from reference import golden_array, golden_file, golden_input, manifest

pytestmark = pytest.mark.slow
NO_MASK = CKDSettings(mask_ratio=0)
MODULES = ("rgb_branch", "tir_branch", "teacher_rgb", "teacher_tir", "box_head", "box_head_v", "box_head_i")


@pytest.fixture(scope="module")
def net() -> CKD:
    net = build_on_meta(MODELS["ckd-base"], teachers=True, drop_path=0.0)
    shapes = manifest("ckd_state_dict")["training"]
    net.load_state_dict({k: torch.from_numpy(golden_array(k, tuple(s))) for k, s in shapes.items()}, assign=True)
    assert isinstance(net, CKD)
    return net.train()


def reference_batch(golden: dict[str, np.ndarray]) -> dict[str, Tensor]:
    crops = {
        kind: torch.stack(
            [torch.from_numpy(golden_input(f"ckd.train.{m}.{kind}", (2, 3, size, size))) for m in ("rgb", "tir")], dim=1
        )
        for kind, size in (("template", 128), ("search", 256))
    }
    return {**crops, "box": torch.from_numpy(golden["gt_xywh"]), "present": torch.ones(2, 2, dtype=torch.bool)}


def gradient_norm(parameters: list[torch.nn.Parameter]) -> float:
    return float(sum((p.grad.double() ** 2).sum() for p in parameters if p.grad is not None)) ** 0.5


def check_gradients(net: CKD, golden: dict[str, np.ndarray], term: str) -> None:
    for module in MODULES:
        ours = gradient_norm(list(net.get_submodule(module).parameters()))
        assert ours == pytest.approx(float(golden[f"gradnorm_{term}_{module}"]), rel=2e-3, abs=1e-9), module
    for name in (key.removeprefix(f"grad_{term}_") for key in golden if key.startswith(f"grad_{term}_")):
        value = golden[f"grad_{term}_{name}"]
        assert gradient_norm([net.get_parameter(name)]) == pytest.approx(float(value), rel=2e-3, abs=1e-9), name


def check_heads(out: NetOutput, boxes: Tensor, golden: dict[str, np.ndarray]) -> None:
    for name, maps in {"fused": out, "t_rgb": out.teachers["rgb"], "t_tir": out.teachers["aux"]}.items():
        loss = task_loss(maps, boxes)
        for part, ours in {"giou": loss.giou, "l1": loss.l1, "focal": loss.focal, "task": loss.total}.items():
            assert float(ours) == pytest.approx(float(golden[f"{name}_{part}"]), rel=1e-4), f"{name} {part}"
        np.testing.assert_allclose(loss.iou.detach(), golden[f"{name}_iou"], atol=1e-4)
        np.testing.assert_allclose(loss.boxes.detach()[:, None], golden[f"{name}_pred_boxes"], atol=1e-4)
        np.testing.assert_allclose(maps.score_map.detach(), golden[f"{name}_score_map"], atol=1e-4)


@pytest.mark.parametrize(("name", "elimination"), [("ckd_d1_noce_train", "none"), ("ckd_d2_mce_train", "mce")])
def test_a_training_step_agrees_with_the_reference(net: CKD, name: str, elimination: str) -> None:
    golden = golden_file(name)
    net.elimination = elimination
    batch = reference_batch(golden)

    net.zero_grad(set_to_none=True)
    step = ckd_step(net, batch, NO_MASK)
    assert float(step.total.detach()) == pytest.approx(float(golden["loss_total_backward"]), rel=1e-4)
    wanted = {"task": "total", "style": "style", "content": "content", "giou": "giou", "l1": "l1", "focal": "location"}
    for ours, reference in (wanted | {"iou": "IoU"}).items():
        assert float(step.parts[ours]) == pytest.approx(float(golden[f"status_{reference}"]), rel=1e-4), ours
    step.total.backward()
    check_gradients(net, golden, "total")
    reached = {key for key, p in net.named_parameters() if p.grad is not None}
    assert {key for key, _ in net.named_parameters()} - reached == set(golden["params_without_grad_total"].tolist())
    del step

    net.zero_grad(set_to_none=True)
    out = forward(net, batch)
    check_heads(out, batch["box"], golden)
    assert [x.shape[1] for x in out.blocks["rgb"]] == golden["tokens_per_layer"].tolist()
    np.testing.assert_allclose([float(x.mean()) for x in out.blocks["rgb"]], golden["x_list_rgb_mean"], atol=1e-5)
    np.testing.assert_allclose([float(x.std()) for x in out.blocks["rgb"]], golden["x_list_rgb_std"], rtol=1e-4)
    if elimination == "mce":
        for stage in range(3):
            for stream, kept in {"rgb": "rgb", "tir": "aux", "t_rgb": "rgb", "t_tir": "aux"}.items():
                removed = removed_positions(out.kept[kept], 256)[stage]
                for ours, theirs in zip(removed, golden[f"removed_{stream}_{stage}"], strict=True):
                    assert set(ours.tolist()) == set(theirs.tolist())

    style, content = between_students(out, batch["present"], NO_MASK), from_teachers(out, NO_MASK)
    np.testing.assert_allclose(style.detach(), golden["style_per_layer"], rtol=1e-4)
    per_layer = golden["content_rgb_per_layer"] + golden["content_tir_per_layer"]
    np.testing.assert_allclose(content.detach(), per_layer, rtol=1e-4)
    content.sum().backward(retain_graph=True)
    check_gradients(net, golden, "content")
    net.zero_grad(set_to_none=True)
    style.sum().backward()
    check_gradients(net, golden, "style")
    net.zero_grad(set_to_none=True)
