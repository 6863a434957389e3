"""A network that answers what it is told, to check tracking exactly: `from scripted import ScriptedNet`."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from duotrack.models.outputs import HeadMaps
from duotrack.models.zoo import Geometry

GEOMETRY = Geometry(template_size=32, search_size=64)
CENTRE = (2, 2, 0.0, 0.0)


@dataclass
class ScriptedNet:
    """Answers one (row, column, offset x, offset y) with a score a call, then the centre of its 4x4 grid.

    The size map is `size` everywhere. `calls` keeps what the tracker asked.
    """

    answers: list[tuple[int, int, float, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    size: tuple[float, float] = (0.25, 0.25)
    calls: list[dict[str, object]] = field(default_factory=list)

    def __call__(
        self,
        *,
        template: tuple[Tensor | None, Tensor | None],
        search: tuple[Tensor | None, Tensor | None],
        available: tuple[str, ...],
    ) -> HeadMaps:
        self.calls.append({"template": template, "search": search, "available": available})
        i = len(self.calls) - 1
        row, column, dx, dy = self.answers[i] if i < len(self.answers) else CENTRE
        score = torch.zeros(1, 1, 4, 4)
        score[0, 0, row, column] = self.scores[i] if i < len(self.scores) else 0.9
        offset = torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        size = torch.tensor(self.size).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        return HeadMaps(score_map=score, size_map=size, offset_map=offset)
