"""From frames with boxes to the tensors of one training sample (docs/specs/ckd.md, sections 3.4 and 3.5)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duotrack.frames import MODALITIES, FramePair, Image, Modality
from duotrack.models.zoo import Geometry
from duotrack.tracking.crop import Crop, box_in_crop, crop_square
from duotrack.tracking.preprocess import fade_rim
from duotrack.training.augmentation import (
    Augmentation,
    Jitter,
    Light,
    beside,
    damage,
    draw_light,
    draw_lost,
    finish,
    jitter_box,
    mirror,
    mirror_crop_box,
    mirror_frame_box,
    stray,
    to_grey,
)
from duotrack.training.synthesis import Synthesis, draw_rendering, render

Box = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Look:
    """A frame, the target's `xywh` box in it, and what experts made of its two images."""

    pair: FramePair
    box: Box
    fused: tuple[Image, ...] = ()


@dataclass(frozen=True)
class Making:
    """What happens to frames on their way into a sample."""

    geometry: Geometry
    jitter: Jitter
    augmentation: Augmentation
    synthesis: Synthesis


def assemble(name: str, looks: Mapping[str, Look], rng: np.random.Generator, making: Making) -> dict[str, Tensor] | str:
    """One sample, or why these frames give none.

    Args:
        name: of the sequence, for the reason.
        looks: "template", "search" and perhaps "dynamic", all with equally many `fused` images.
        rng: draws everything.
        making: how.

    Returns:
        For each look `NAME` (2, 3, S, S) and, where it has fused images, `fused_NAME` (K, 3, S, S); `box` of the target
        in the search crop (zeros where it is cut beside the target) and `present`; see `pairs.PairDataset`.
    """
    augmentation, shape = making.augmentation, making.geometry
    present = [m for m in MODALITIES if all(m in look.pair.available for look in looks.values())]
    if not present:
        return f"{name}: no modality can be read in {'both' if len(looks) == 2 else 'all'} frames"
    lost = draw_lost(rng, augmentation) if len(present) == 2 else None
    absent = augmentation.drop_as == "absent"
    present = [modality for modality in present if modality != lost or not absent]
    images = {key: [*(_image(look.pair, m) for m in present), *look.fused] for key, look in looks.items()}
    boxes = {key: look.box for key, look in looks.items()}
    if rng.random() < augmentation.grey:
        turns = [modality == "rgb" or augmentation.grey_aux for modality in present]
        turns += [True] * len(looks["search"].fused)
        for key, group in images.items():
            images[key] = [to_grey(image) if grey else image for image, grey in zip(group, turns, strict=True)]
    if rng.random() < augmentation.flip:
        boxes = {key: mirror_frame_box(box, images[key][0].shape[1]) for key, box in boxes.items()}
        images = {key: [mirror(image) for image in group] for key, group in images.items()}
    around = {"template": boxes["template"], "search": jitter_box(boxes["search"], rng, making.jitter)}
    elsewhere = None
    if making.jitter.away > 0 and rng.random() < making.jitter.away:
        height, width = images["search"][0].shape[:2]
        elsewhere = beside(around["search"], boxes["search"], shape.search_factor, (width, height), rng)
        around["search"] = around["search"] if elsewhere is None else elsewhere
    if "dynamic" in looks:
        around["dynamic"] = stray(boxes["dynamic"], rng, making.jitter)
    crops: dict[str, list[Crop]] = {}
    places: dict[str, Box] = {}
    for key, centre in around.items():
        factor, size = shape.template_factor, shape.template_size
        if key == "search":
            factor, size = shape.search_factor, shape.search_size
        crops[key] = [crop_square(image, centre, factor, size, padding=True) for image in images[key]]
        if _only_padding(crops[key][0], shape.stride):
            return f"{name}: a crop lies outside the frame"
        places[key] = box_in_crop(boxes[key], centre, crops[key][0].resize_factor, size)
    masks = {key: _padding(group[0]) for key, group in crops.items()}
    sensors = {key: [crop.image for crop in group[: len(present)]] for key, group in crops.items()}
    if lost is not None and not absent:
        seen, place = sensors["search"], present.index(lost)
        seen[place] = np.zeros_like(seen[place]) if augmentation.drop_as == "zeros" else seen[1 - place]
    shown = list(present)
    if len(present) == 1 and lost is None and rng.random() < making.synthesis.probability:
        other = MODALITIES[1 - MODALITIES.index(present[0])]
        rendering = draw_rendering(rng, other)
        for key, made in sensors.items():
            made.append(render(made[0], rendering, box=places[key], padding=masks[key], rng=rng))
        shown.append(other)
    sample: dict[str, Tensor] = {}
    for key, made in sensors.items():
        light = draw_light(rng, augmentation)
        sample[key] = _stacked(made, shown, masks[key], light, rng, augmentation)
        if key != "search":
            square = crops[key][0].square
            fade_rim(sample[key], around[key], square, shape.rim, mirrored=light.mirrored)
        fused = [crop.image for crop in crops[key][len(present) :]]
        if fused:  # an expert's image keeps its brightness: the adapter is to give it whatever the light
            plain = Light(1.0, light.mirrored)
            sample[f"fused_{key}"] = torch.from_numpy(np.stack([finish(image, plain) for image in fused]))
        if key == "search":
            box = mirror_crop_box(places[key]) if light.mirrored else places[key]
            box = box if elsewhere is None else np.zeros(4)
            sample["box"] = torch.from_numpy(box.astype(np.float32))
    return sample | {"present": torch.tensor([modality in shown for modality in MODALITIES])}


def _image(pair: FramePair, modality: Modality) -> Image:
    image = pair.rgb if modality == "rgb" else pair.aux
    assert image is not None  # it is available
    return image


def _stacked(
    crops: list[Image],
    present: list[Modality],
    mask: NDArray[np.bool_],
    light: Light,
    rng: np.random.Generator,
    augmentation: Augmentation,
) -> Tensor:
    """(2, 3, S, S) of one look; a missing modality takes the other's pixels."""
    stack = np.empty((2, 3, *crops[0].shape[:2]), np.float32)
    for modality, crop in zip(present, crops, strict=True):
        bright = modality == "rgb" or augmentation.brightness_aux
        own = light if bright else Light(1.0, light.mirrored)
        finish(damage(crop, mask, rng, augmentation), own, out=stack[MODALITIES.index(modality)])
    if len(present) == 1:
        there = MODALITIES.index(present[0])
        stack[1 - there] = stack[there]
    return torch.from_numpy(stack)


def _padding(crop: Crop) -> NDArray[np.bool_]:
    assert crop.padding is not None  # it was asked for
    return crop.padding


def _only_padding(crop: Crop, stride: int) -> bool:
    """Whether nothing of the frame is left after nearest reduction to the token grid (section 3.4)."""
    return bool(_padding(crop)[::stride, ::stride].all())
