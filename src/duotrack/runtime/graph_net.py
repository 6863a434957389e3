"""A network as graphs that some library runs: which one answers, and what it is fed.

A graph is made for the images that a frame has. Where its network masks, the graph for both modalities also answers
frames that lack one, at full cost but at once: a sensor that drops out never waits for a graph to be made.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from duotrack.frames import MODALITIES, Modality, available_modalities
from duotrack.models.outputs import HeadMaps
from duotrack.runtime.graph_facts import GraphFacts, Wanted

logger = logging.getLogger(__name__)

Pair = tuple[Tensor | None, Tensor | None]


class Session(Protocol):
    """A graph that a library has made ready."""

    facts: GraphFacts

    def remember(self, images: list[Tensor]) -> list[Tensor]:
        """Template images in the graph's order -> their tokens; only where `facts.keeps`."""
        ...

    def follow(self, inputs: list[Tensor]) -> list[Tensor]:
        """Templates (tokens where `facts.keeps`), search images, `present` where `facts.masked` -> the three maps."""
        ...


@dataclass(eq=False)
class Remembered:
    """A template: its images, and the tokens that each session made of them."""

    images: Pair
    tokens: dict[int, list[Tensor]] = field(default_factory=dict)


class GraphNet:
    """Answers as the network does that its graphs were made of.

    Args:
        open_session: makes a graph ready for the images named; may raise `InputError`.
        elimination: what the network eliminates by.
    """

    def __init__(self, open_session: Callable[[Wanted], Session], *, elimination: str) -> None:
        self._open = open_session
        self.elimination = elimination
        self.sessions: list[Session] = []

    def remember(self, template: Pair) -> Remembered:
        """Keep a template, (rgb, aux) images (1, 3, T, T), None where missing; opens the graph for what it has."""
        remembered = Remembered(template)
        names = available_modalities(*template)
        session = self._exact(names, names) or self.open(Wanted(names, names))
        if session.facts.keeps:
            self._tokens(remembered, session, names)
        return remembered

    def __call__(
        self, *, template: Remembered | Sequence[Remembered] | Pair, search: Pair, available: tuple[str, ...]
    ) -> HeadMaps:
        """Maps for a stack of search images.

        Args:
            template: from `remember`, one a sample; or images, which are not kept then.
            search: (rgb, aux), each (B, 3, S, S) or None.
            available: names of the modalities that count.
        """
        memories = _memories(template)
        names = tuple(n for n, image in zip(MODALITIES, search, strict=True) if image is not None and n in available)
        had = available_modalities(*memories[0].images)
        session = self._session(had, names)
        inputs = self._templates(memories, session, names)
        inputs += _searches(search, session.facts, names)
        score_map, size_map, offset_map = session.follow(inputs)
        return HeadMaps(score_map=score_map, size_map=size_map, offset_map=offset_map)

    def open(self, wanted: Wanted) -> Session:
        """Make the graph for these images ready."""
        if self.sessions:
            logger.info("making a graph for %s ready", ", ".join(wanted.search))
        session = self._open(wanted)
        if all(session is not each for each in self.sessions):
            self.sessions.append(session)
        return session

    def _session(self, template: tuple[Modality, ...], search: tuple[Modality, ...]) -> Session:
        masked = next((each for each in self.sessions if each.facts.masked), None)
        return self._exact(template, search) or masked or self.open(Wanted(template, search))

    def _exact(self, template: tuple[Modality, ...], search: tuple[Modality, ...]) -> Session | None:
        for session in self.sessions:
            facts = session.facts
            looks = facts.search == search or (facts.either and len(search) == 1 == len(facts.search))
            if looks and (facts.keeps or facts.template == template):
                return session
        return None

    def _templates(self, memories: list[Remembered], session: Session, names: tuple[Modality, ...]) -> list[Tensor]:
        """A stack for each template input of the graph."""
        if session.facts.keeps:
            each = [self._tokens(memory, session, names) for memory in memories]
        else:
            each = [[_image(memory.images, name) for name in session.facts.template] for memory in memories]
        return [torch.cat(parts) for parts in zip(*each, strict=True)]

    def _tokens(self, memory: Remembered, session: Session, names: tuple[Modality, ...]) -> list[Tensor]:
        if id(session) not in memory.tokens:
            wanted = names if session.facts.either else session.facts.template
            memory.tokens[id(session)] = session.remember([_image(memory.images, name) for name in wanted])
        return memory.tokens[id(session)]


def _memories(template: Remembered | Sequence[Remembered] | Pair) -> list[Remembered]:
    if isinstance(template, Remembered):
        return [template]
    if all(isinstance(each, Remembered) for each in template):
        return list(template)  # type: ignore[arg-type]
    rgb, aux = template
    return [Remembered((rgb, aux))]  # type: ignore[arg-type]


def _image(images: Pair, name: Modality) -> Tensor:
    """A template image; the other modality's where this one has none."""
    own, other = images if name == "rgb" else images[::-1]
    image = other if own is None else own
    if image is None:
        raise ValueError("both modalities are missing: at least one template is needed")
    return image


def _searches(search: Pair, facts: GraphFacts, names: tuple[Modality, ...]) -> list[Tensor]:
    images = dict(zip(MODALITIES, search, strict=True))
    there = [image for name in names if (image := images[name]) is not None]
    if not there:
        raise ValueError("both modalities are missing: at least one search image is needed")
    if not facts.masked:
        return there
    filled = [
        image if name in names and image is not None else torch.zeros_like(there[0]) for name, image in images.items()
    ]
    present = torch.tensor([[name in names for name in MODALITIES]]).expand(len(there[0]), 2)
    return [*filled, present]


def in_batches(run: Callable[[list[Tensor]], list[Tensor]], inputs: list[Tensor], batch: int) -> list[Tensor]:
    """Put a stack of any size through a graph for exactly `batch` samples, the last ones filled up by repetition."""
    count = len(inputs[0])
    if count == batch:
        return run(inputs)
    parts = []
    for start in range(0, count, batch):
        index = torch.arange(start, start + batch).clamp(max=count - 1)
        parts.append([each[: count - start] for each in run([tensor[index] for tensor in inputs])])
    return [torch.cat(each) for each in zip(*parts, strict=True)]
