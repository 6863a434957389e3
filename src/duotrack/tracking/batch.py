"""Many targets in many videos, advanced in lockstep: one forward of the network a step.

The trackers are ordinary ones (`Tracker.clone` of one another); only the network's work is shared. A stack of samples
is always of the same size, the last one filled up by repetition, because how a matrix product rounds depends on how
many rows it has: so a target's boxes do not depend on which others happen to be beside it, nor on how many are left.
They still differ from one-by-one tracking by rounding, which tracking can blow up (a cell on the brink, a crop on the
brink of a pixel). A `stack` of 1 looks at one sample after the other: exactly the boxes of one-by-one tracking.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from duotrack.frames import Image, Modality, TrackResult
from duotrack.tracking.decode import Peak
from duotrack.tracking.tracker import Question, Tracker

Frame = tuple[Image | None, Image | None]


def default_stack(device: torch.device, batch: int) -> int:
    """How many samples of a batch go into one forward: all on a GPU, one on the CPU.

    A CPU computes hardly faster in stacks (worker processes are how to use its cores), so exactness costs little there.
    """
    return 1 if device.type == "cpu" else batch


def update_together(trackers: Sequence[Tracker], frames: Sequence[Frame], *, stack: int) -> list[TrackResult]:
    """`Tracker.update` of each tracker with its frame (rgb, aux), the network's work done together.

    Args:
        trackers: clones of one another, each after `init`; frames and targets may have any size.
        frames: one a tracker; images may be missing.
        stack: samples in one forward; 1 gives exactly what one-by-one tracking gives.

    Raises:
        InputError: as `Tracker.update`; no tracker has then moved.
    """
    questions = [tracker.ask(*frame) for tracker, frame in zip(trackers, frames, strict=True)]
    return answer_together(trackers, questions, stack=stack)


def answer_together(
    trackers: Sequence[Tracker], questions: Sequence[Question | None], *, stack: int
) -> list[TrackResult]:
    """The rest of `update_together` for questions that `Tracker.ask` gave."""
    peaks: list[Peak | None] = [None] * len(questions)
    groups: dict[tuple[Modality, ...], list[int]] = {}
    for index, question in enumerate(questions):
        if question is not None:
            groups.setdefault(question.available, []).append(index)
    for indices in groups.values():  # samples that have the same modalities go together
        for chunk in (indices[start : start + stack] for start in range(0, len(indices), stack)):
            asked = [question for index in chunk if (question := questions[index]) is not None]
            tracker = trackers[chunk[0]]
            found = [tracker.look(asked[0])] if stack == 1 else _look(tracker, asked, stack)
            for index, peak in zip(chunk, found, strict=True):
                peaks[index] = peak
    triples = zip(trackers, questions, peaks, strict=True)
    return [tracker.answer(question, peak) for tracker, question, peak in triples]


@torch.inference_mode()
def _look(tracker: Tracker, questions: list[Question], stack: int) -> list[Peak]:
    """One forward over questions that have the same modalities, filled up to `stack` samples."""
    filled = questions + questions[-1:] * (stack - len(questions))
    pairs = all(isinstance(question.template, tuple) for question in filled)
    # a network that remembers templates in its own way takes one a sample
    template = (_templates(filled, 0), _templates(filled, 1)) if pairs else [each.template for each in filled]
    search = (_searches(filled, 0), _searches(filled, 1))
    maps = tracker.net(template=template, search=search, available=questions[0].available)
    return tracker.peaks(maps)[: len(questions)]


def _templates(questions: list[Question], side: int) -> Tensor:
    """A target that never had this modality's template is searched with the other's, as networks do by themselves."""
    own = [question.template[side] for question in questions]
    other = [question.template[1 - side] for question in questions]
    return torch.cat([b if a is None else a for a, b in zip(own, other, strict=True)])


def _searches(questions: list[Question], side: int) -> Tensor | None:
    crops = [crop for question in questions if (crop := question.search[side]) is not None]
    return torch.cat(crops) if crops else None
