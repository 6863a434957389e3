import pytest
import torch

from duotrack.errors import InputError
from duotrack.models.zoo import MODELS, build_on_meta, model_spec


@pytest.mark.parametrize(
    ("name", "teachers"),
    [(name, False) for name in sorted(MODELS)]
    + [(name, True) for name in sorted(MODELS) if MODELS[name].method == "ckd"],
)
def test_models_build_and_agree_with_their_geometry(name: str, teachers: bool) -> None:
    spec = model_spec(name)
    net = build_on_meta(spec, **({"teachers": True} if teachers else {}))
    geometry = spec.geometry
    image = lambda size: torch.zeros(1, 3, size, size, device="meta")  # noqa: E731
    template, search = image(geometry.template_size), image(geometry.search_size)
    net.eval().elimination = "none"
    out = net(template=(template, template), search=(search, search))
    grid = geometry.search_size // geometry.stride
    assert out.score_map.shape == (1, 1, grid, grid)
    assert out.size_map.shape == out.offset_map.shape == (1, 2, grid, grid)


def test_tiny_fits_its_budget() -> None:
    parameters = sum(p.numel() for p in build_on_meta(MODELS["ckd-tiny"]).parameters())
    assert parameters * 2 < 32e6  # half precision


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'ckd-base'"):
        model_spec("ckd-bsae")
