"""What speed is compared with computes what we compute."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from duotrack.models.ckd import CKD
from duotrack.models.head import CenterHead
from duotrack.models.vit import VisionTransformer

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "reference_ckd.py"


@pytest.mark.parametrize("elimination", ["none", "mce"])
def test_the_reference_of_the_benchmarks_gives_our_maps(elimination):
    spec = importlib.util.spec_from_file_location("reference_ckd", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_ckd"] = module
    spec.loader.exec_module(module)
    torch.manual_seed(5)
    net = CKD(
        branch=lambda: VisionTransformer(template_size=64, search_size=128, dim=32, depth=4, heads=2),
        head=lambda inputs: CenterHead(inputs=inputs, channels=16),
        stages=(1, 2),
        elimination=elimination,
    ).eval()
    images = [torch.randn(2, 3, side, side) for side in (64, 64, 128, 128)]
    pairs = {"template": tuple(images[:2]), "search": tuple(images[2:])}
    with torch.inference_mode():
        ours, theirs = net(**pairs), module.ReferenceCKD(net)(**pairs)
    for name in ("score_map", "size_map", "offset_map"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-6, rtol=1e-4)
