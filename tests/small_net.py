"""Networks small enough to trace, export and compile in a test: `from small_net import small_ckd, track`."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from duotrack.models.ckd import CKD
from duotrack.models.head import CenterHead, FrozenNorm
from duotrack.models.ipl import IPL
from duotrack.models.outputs import HeadMaps
from duotrack.models.patrack import AdaptedBlock, PATrack
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, Geometry, ModelSpec
from duotrack.runtime import backends, export
from duotrack.tracking.tracker import Tracker

GEOMETRY = Geometry(template_size=32, search_size=64)
_BRANCH = partial(VisionTransformer, template_size=32, search_size=64, dim=32, depth=3, heads=2)


def small_ckd(*, elimination: str = "mce", shared: bool = False, **options: object) -> CKD:
    """CKD with random weights that are always the same."""
    torch.manual_seed(0)
    head = partial(CenterHead, channels=16)
    net = CKD(branch=_BRANCH, head=lambda n: head(inputs=n), stages=(1,), elimination=elimination, shared=shared)  # type: ignore[arg-type]
    return net.eval()


def small_ipl(*, elimination: str = "ce") -> IPL:
    """IPL, its prompters far from identity."""
    torch.manual_seed(0)
    head = partial(CenterHead, channels=16, norm=FrozenNorm)
    net = IPL(branch=_BRANCH, head=lambda n: head(inputs=n), stages=(1,), elimination=elimination)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def small_patrack() -> PATrack:
    """PATrack with both kinds of adapters."""
    torch.manual_seed(0)
    backbone = partial(_BRANCH, block=partial(AdaptedBlock, width=8))
    head = partial(CenterHead, channels=16)
    return PATrack(backbone=backbone, head=lambda n: head(inputs=n), entangled=(1,), head_width=8).eval()


class Plain(nn.Module):
    """A method without a deployed form of its own: it neither keeps templates nor masks, but has a centre head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.patches = nn.Conv2d(3, 8, kernel_size=16, stride=16)
        self.box_head = CenterHead(inputs=8, channels=16)
        self.elimination = "none"

    def forward(self, *, template, search, available=("rgb", "aux"), **options) -> HeadMaps:  # type: ignore[no-untyped-def]
        """The sum over what is there; where aux is missing the template counts double."""
        images = [x for name, x in zip(("rgb", "aux"), search, strict=True) if x is not None and name in available]
        tokens = sum(self.patches(image).flatten(2).transpose(1, 2) for image in images)
        kernel = sum(self.patches(image).mean((2, 3)) for image in template if image is not None)
        return self.box_head(tokens * (1.0 if len(images) == 2 else 2.0) + kernel[:, None])  # type: ignore[union-attr]


SPEC = ModelSpec(
    name="small",
    method="ckd",
    summary="a test's",
    build=small_ckd,
    geometry=GEOMETRY,
    elimination="mce",
    calibration=(1.5, 0.25),
)


def put_into_zoo(patch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Small models under the names "small", "plain", "ipl" and "patrack"; gives what builds them."""
    made = {"small": small_ckd, "ipl": small_ipl, "plain": lambda: Plain().eval(), "patrack": small_patrack}
    for name in made:
        patch.setitem(MODELS, name, replace(SPEC, name=name))

    def build(name, *, weights=None, elimination=None):  # type: ignore[no-untyped-def]
        return made[name](elimination=elimination) if elimination else made[name]()

    for module in (export, backends):
        patch.setattr(module, "build_net", build)
    return build


BOX = (40.0, 30.0, 24.0, 16.0)
BOTH, RGB, AUX, NONE = (True, True), (True, False), (False, True), (False, False)


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 128, 3)).astype(np.uint8)


def track(tracker: Tracker, there) -> list:
    """Results of frames that have what `there` says, the first one initialises."""
    pairs = [tuple(frame(2 * i + j) if has else None for j, has in enumerate(each)) for i, each in enumerate(there)]
    tracker.init(*pairs[0], BOX)
    return [tracker.update(*pair) for pair in pairs[1:]]


def same(ours: list, theirs: list, atol: float = 1e-3) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.box, b.box, atol=atol)
        assert a.score == pytest.approx(b.score, abs=1e-4)
        assert (a.state, a.available) == (b.state, b.available)
