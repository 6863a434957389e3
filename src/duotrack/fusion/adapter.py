"""Our pixel-level fusion adapter as an expert: what TPF makes of a pair, without its tracker."""

from pathlib import Path

from torch import Tensor

from duotrack.errors import InputError
from duotrack.files import digest
from duotrack.fusion.expert import Expert, MissingExpertError, on_device
from duotrack.models.tpf import TPF
from duotrack.models.zoo import MODELS
from duotrack.weights.build import build_net, packaged_weights

ADAPTERS = tuple(name for name, spec in MODELS.items() if spec.method == "tpf")
"""Models that have an adapter."""


def open_adapter(name: str, weights: str | Path | None) -> Expert:
    """The adapter of model `name`, with trained weights: an untrained one gives the mean of both images.

    Raises:
        MissingExpertError: no file of weights. InputError: the weights are not for this model.
    """
    path = packaged_weights(MODELS[name]) if weights is None else Path(weights).expanduser()
    if path is None:
        raise InputError(
            f"{name} has no weights in the package; give trained ones (--weights FILE): untrained, its adapter gives "
            "the mean of both images, which is --expert average"
        )
    if not path.is_file():
        raise MissingExpertError(f"no weights of {name} at {path}; check the path")
    net = build_net(name, weights=path).requires_grad_(False)
    assert isinstance(net, TPF)  # all in ADAPTERS are
    del net.backbone, net.box_head  # what draws the picture needs no tracker

    def fuse(rgb: Tensor, aux: Tensor) -> Tensor:
        on_device(net, rgb.device)
        return net.picture(rgb, aux)[0].clamp(0, 1)

    return Expert(name, fuse, version=digest(path)[:12])
