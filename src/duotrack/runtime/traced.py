"""A network as a plain graph: image tensors in, map tensors out, for one set of modalities."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from duotrack.models.zoo import Geometry
from duotrack.runtime.graph_facts import MAPS, Wanted
from duotrack.runtime.torch_backend import keeps_templates

_NAMES = ("rgb", "aux")
TRACED_BATCH = 2
"""Samples in the examples that a dynamic batch is traced with: a 1 would be taken for a constant."""


class Traced(nn.Module):
    """A deployed network with tensors by position, as tracers want them.

    Args:
        net: what `duotrack.runtime.deploy.deploy` gave.
        wanted: which images it is given.
    """

    def __init__(self, net: nn.Module, wanted: Wanted) -> None:
        super().__init__()
        self.net = net
        self.wanted = wanted
        self.keeps = keeps_templates(net)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Inputs in the order of `input_names` -> the three maps, then the template's tokens where it keeps them."""
        given = dict(zip(self.wanted.input_names(), tensors, strict=True))
        template = (given.get("template_rgb"), given.get("template_aux"))
        search = (given.get("search_rgb"), given.get("search_aux"))
        options = {"present": given["present"]} if "present" in given else {}
        if self.keeps:
            template = self.net.remember(template)  # type: ignore[operator]
        maps = self.net(template=template, search=search, available=self.wanted.search, **options)
        kept = [template[_NAMES.index(name)] for name in self.wanted.template] if self.keeps else []
        return (*(getattr(maps, name) for name in MAPS), *kept)


def example(wanted: Wanted, geometry: Geometry, *, batch: int, seed: int = 0) -> list[Tensor]:
    """Images of normal noise for every input of a graph; with a mask all modalities are present."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"template": geometry.template_size, "search": geometry.search_size}
    images = []
    for name in wanted.input_names():
        if name == "present":
            images.append(torch.ones(batch, 2, dtype=torch.bool))
        else:
            side = sizes[name.partition("_")[0]]
            images.append(torch.randn(batch, 3, side, side, generator=generator))
    return images


def trace(net: nn.Module, wanted: Wanted, geometry: Geometry, *, batch: int) -> torch.export.ExportedProgram:
    """The graph of a deployed network for `batch` samples, 0 for any number."""
    module = Traced(net, wanted).eval()
    images = example(wanted, geometry, batch=batch or TRACED_BATCH)
    shapes = None if batch else (tuple({0: torch.export.Dim("batch", min=1, max=4096)} for _ in images),)
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer's own making
        return torch.export.export(module, tuple(images), dynamic_shapes=shapes)


def run_torch(net: nn.Module, wanted: Wanted, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What the graph ought to give: the network's maps for these inputs."""
    with torch.inference_mode():
        return [each.float() for each in Traced(net, wanted)(*inputs)[: len(MAPS)]]
