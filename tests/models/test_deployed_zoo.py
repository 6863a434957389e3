"""Every model of the zoo answers the same in its deployed form."""

import pytest
import torch

from duotrack.models.zoo import MODELS, model_spec
from duotrack.runtime.deploy import deploy

TINY = [name for name in MODELS if name.endswith("-tiny")]


@pytest.mark.parametrize("available", [("rgb", "aux"), ("rgb",), ("aux",)], ids="+".join)
@pytest.mark.parametrize("name", TINY)
@torch.inference_mode()
def test_the_deployed_form_gives_the_same_maps(name: str, available: tuple[str, ...]) -> None:
    torch.manual_seed(1)
    spec = model_spec(name)
    net = spec.build().eval()
    for module in net.modules():  # statistics that folding must not lose
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    size = spec.geometry
    template = tuple(torch.randn(1, 3, size.template_size, size.template_size) for _ in range(2))
    search = tuple(torch.randn(1, 3, size.search_size, size.search_size) for _ in range(2))
    before = net(template=template, search=search, available=available)
    form = deploy(net)
    known = form.remember(template) if hasattr(form, "remember") else template
    after = form(template=known, search=search, available=available)
    for which in ("score_map", "size_map", "offset_map"):
        torch.testing.assert_close(getattr(after, which), getattr(before, which), atol=1e-4, rtol=0)
