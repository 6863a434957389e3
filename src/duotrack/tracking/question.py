"""What a tracker asks of its network, and several such questions as one stack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from duotrack.frames import Modality, available_modalities
from duotrack.models.outputs import HeadMaps
from duotrack.tracking.missing import Images, Past

Pair = tuple[Tensor | None, Tensor | None]


class Network(Protocol):
    """What the tracker asks of a network: any module of `duotrack.models`, or a stand-in.

    One that has a method `remember(template: Pair)` is asked once what it wants to keep of a template, and handed that
    as `template` from then on. One that takes two templates is also handed `dynamic`, None where it is the first one
    again; for templates out of fused images it has `remember_fused(image)` and gives `fused` with its maps.
    """

    def __call__(self, *, template: Any, search: Pair, available: tuple[str, ...]) -> HeadMaps:
        """Normalised template and search crops (1, 3, S, S), None where missing, to the maps of a centre head."""
        ...


@dataclass(frozen=True, eq=False)
class Question:
    """What a tracker asks its network about one frame.

    `template` and `dynamic` (None: the first one again) are what the network remembers of them, else their images;
    `search` what it is shown for (rgb, aux): images as the network reads them, (1, 3, S, S) on its device, None where
    it is shown nothing; `resize_factor` of the search crops; `present` the modalities that the frame itself had;
    `past` what the sensors have given up to this frame; `images` the frame itself, and `shown` what the search crops
    were cut from, where something else may be cut from them.
    """

    template: Any
    search: Pair
    resize_factor: float
    present: tuple[Modality, ...]
    past: Past
    dynamic: Any = None
    images: Images = (None, None)
    shown: Images = (None, None)

    @property
    def available(self) -> tuple[Modality, ...]:
        """The modalities that the search region has; none: there is nothing to ask, and the box is held."""
        return available_modalities(*self.search)


def default_stack(device: torch.device, batch: int) -> int:
    """How many samples of a batch go into one forward: all on a GPU, one on the CPU.

    On the CPU exactness comes first: stacks save a tenth of the time in fp32, a quarter to a third in bf16, and worker
    processes are how to use more cores.
    """
    return 1 if device.type == "cpu" else batch


def stacked_maps(net: Network, questions: Sequence[Question], stack: int, *, two_templates: bool) -> HeadMaps:
    """One forward over questions that have the same modalities, filled up to `stack` samples by repetition."""
    filled = [*questions, *[questions[-1]] * (stack - len(questions))]
    pairs = all(isinstance(question.template, tuple) for question in filled)
    # a network that remembers templates in its own way takes one a sample
    template = _joined([each.template for each in filled]) if pairs else [each.template for each in filled]
    # a second template is always written out, so that no sample's numbers depend on what its neighbours have
    seconds = [question.template if question.dynamic is None else question.dynamic for question in filled]
    second = {"dynamic": _joined(seconds)} if two_templates else {}
    search = (_searches(filled, 0), _searches(filled, 1))
    return net(template=template, search=search, available=questions[0].available, **second)


def _joined(templates: list[Pair]) -> tuple[Tensor, Tensor]:
    """A target that never had a modality's template is searched with the other's, as networks do by themselves."""
    rgb, aux = zip(*templates, strict=True)
    return _filled(rgb, aux), _filled(aux, rgb)


def _filled(own: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([b if a is None else a for a, b in zip(own, other, strict=True)])  # type: ignore[misc]


def _searches(questions: list[Question], side: int) -> Tensor | None:
    crops = [crop for question in questions if (crop := question.search[side]) is not None]
    return torch.cat(crops) if crops else None
