"""The deployed form gives the maps of the network it is made of."""

import copy
from functools import partial

import pytest
import torch

from duotrack.models.ckd import CKD
from duotrack.models.ckd_deployed import DeployedCKD
from duotrack.models.head import CenterHead
from duotrack.models.hiera import HieraBranch
from duotrack.models.merged_head import MergedHead
from duotrack.models.vit import VisionTransformer

VIT = partial(VisionTransformer, template_size=32, search_size=64, dim=32, depth=4, heads=2)
HIERA = partial(HieraBranch, template_size=32, search_size=64, dim=8, depth=4)
MAPS = ("score_map", "size_map", "offset_map")


def trained_norms(module: torch.nn.Module) -> None:
    """Statistics and scales as training leaves them, so that folding them wrongly shows."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value, low, high in ((part.running_mean, -1, 1), (part.running_var, 0.3, 3), (part.weight, 0.5, 2)):
                torch.nn.init.uniform_(value, low, high)
            torch.nn.init.uniform_(part.bias, -1, 1)


def network(branch, **options: object) -> CKD:
    torch.manual_seed(0)
    squeeze = 24 if branch is HIERA else None
    net = CKD(branch=branch, head=lambda n: CenterHead(inputs=n, channels=16, squeeze=squeeze), stages=(1, 2), **options)
    trained_norms(net)
    return net.eval()


def images(size: int, batch: int = 2, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed + size)
    return tuple(torch.randn(batch, 3, size, size, generator=generator) for _ in range(2))  # type: ignore[return-value]


def same(ours, theirs, atol: float = 1e-5) -> None:
    for name in MAPS:
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=atol, rtol=0)


@pytest.mark.parametrize("squeeze", [None, 12])
def test_merged_head(squeeze: int | None) -> None:
    torch.manual_seed(0)
    head = CenterHead(inputs=20, channels=16, squeeze=squeeze)
    trained_norms(head)
    tokens = torch.randn(3, 25, 20)
    with torch.inference_mode():
        same(MergedHead(head.eval())(tokens), head(tokens))


@pytest.mark.parametrize("branch", [VIT, HIERA])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("elimination", ["mce", "ce", "none"])
@pytest.mark.parametrize("names", [("rgb", "aux"), ("rgb",), ("aux",)])
@torch.inference_mode()
def test_same_maps(branch, shared: bool, elimination: str, names: tuple[str, ...]) -> None:
    net = network(branch, shared=shared, elimination=elimination)
    template, search = images(32), images(64)
    expected = net(template=template, search=search, available=names)
    deployed = DeployedCKD(copy.deepcopy(net))
    same(deployed(template=deployed.remember(template), search=search, available=names), expected)
    search = tuple(image if name in names else None for name, image in zip(("rgb", "aux"), search, strict=True))
    same(deployed(template=deployed.remember(template), search=search), expected)


@pytest.mark.parametrize("options", [{"content_only": True}, {"content_only": True, "elimination": "none"}])
@torch.inference_mode()
def test_statistics_over_all_tokens_keep_the_template(options) -> None:
    net = network(VIT, **options)
    template, search = images(32), images(64)
    deployed = DeployedCKD(copy.deepcopy(net))
    same(deployed(template=deployed.remember(template), search=search), net(template=template, search=search))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("elimination", ["mce", "ce"])
@torch.inference_mode()
def test_a_mask_does_what_missing_images_do(shared: bool, elimination: str) -> None:
    net = network(VIT, shared=shared, elimination=elimination)
    template, search = images(32, batch=3), images(64, batch=3)
    present = torch.tensor([[True, True], [True, False], [False, True]])
    deployed = DeployedCKD(copy.deepcopy(net))
    filled = tuple(image * present[:, i].view(-1, 1, 1, 1) for i, image in enumerate(search))
    masked = deployed(template=deployed.remember(template), search=filled, present=present)
    same(masked, net(template=template, search=search, present=present))


@pytest.mark.parametrize("given", [(True, False), (False, True)])
@torch.inference_mode()
def test_one_template_serves_both(given: tuple[bool, bool]) -> None:
    net = network(VIT)
    template = tuple(image if there else None for image, there in zip(images(32), given, strict=True))
    deployed = DeployedCKD(copy.deepcopy(net))
    search = images(64)
    same(deployed(template=deployed.remember(template), search=search), net(template=template, search=search))
    with pytest.raises(ValueError, match="missing"):
        deployed.remember((None, None))
    with pytest.raises(ValueError, match="missing"):
        deployed(template=deployed.remember(template), search=(None, None))


def test_the_last_block_may_eliminate() -> None:
    torch.manual_seed(0)
    net = CKD(branch=VIT, head=lambda n: CenterHead(inputs=n, channels=16), stages=(1, 3)).eval()
    template, search = images(32), images(64)
    with torch.inference_mode():
        deployed = DeployedCKD(copy.deepcopy(net))
        same(deployed(template=deployed.remember(template), search=search), net(template=template, search=search))
