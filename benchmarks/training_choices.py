"""What each choice of training costs or saves on a CPU, against what `duotrack train` does.

    python benchmarks/training_choices.py [--rounds 7] [--batch 4]

A step of ckd-tiny by `ckd-tiny-quick` in other precisions, memory layouts and optimisers, and with torch's fused
attention; the distillation of a ckd-base-sized network block by block instead of stacked; pairs from whole frames
against pairs from a crop cache. One thread, processor time, variants taking turns: other programs hardly disturb the
ratios.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

from duotrack.datasets.cache import CropCache, build_cache
from duotrack.datasets.layouts import open_lasher
from duotrack.models import attention
from duotrack.models.zoo import model_spec
from duotrack.training.data import Folders, open_folders, training_pairs
from duotrack.training.distillation import content_term, per_block, style_term
from duotrack.training.fit import build_network
from duotrack.training.methods.table import method_of
from duotrack.training.optimise import make_optimiser, rest_frozen, split_parameters
from duotrack.training.recipe import Recipe, load_recipe
from duotrack.training.speed import write_sequence

Run = Callable[[], object]


def training_step(recipe: Recipe, batch: int, *, bf16: bool = True, fused: bool = True, last: bool = False) -> Run:
    """A whole step: forward, backward, clipping, optimiser."""
    net = build_network(recipe, load=False).train()
    groups = split_parameters(net, recipe.optimiser.learning_rates, recipe.freeze)
    rest_frozen(net)
    if last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = make_optimiser(groups, recipe.optimiser, fused=fused)
    geometry, method = model_spec(recipe.model.name).geometry, method_of(recipe.model.name)
    draw = torch.Generator().manual_seed(0)
    template, search = (
        torch.randn(batch, 2, 3, side, side, generator=draw) for side in (geometry.template_size, geometry.search_size)
    )
    box = torch.tensor([[0.4, 0.4, 0.2, 0.2]]).repeat(batch, 1)
    pairs = {"template": template, "search": search, "box": box, "present": torch.ones(batch, 2, dtype=torch.bool)}
    parameters = [p for group in groups[:-1] for p in group.parameters]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = method.step(net, pairs, settings=recipe.method, epoch=0.0).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip)
        optimiser.step()
        optimiser.zero_grad()

    return step


def torch_attention(step: Run) -> Run:
    """The step with torch's fused attention, forward and backward, in the blocks."""

    def run() -> None:
        with patch.object(attention, "dot_product_attention", F.scaled_dot_product_attention):
            step()

    return run


def optimiser_step(recipe: Recipe, *, fused: bool) -> Run:
    """The optimiser alone, on gradients that stay."""
    net = build_network(recipe, load=False)
    groups = split_parameters(net, recipe.optimiser.learning_rates, recipe.freeze)
    for group in groups[:-1]:
        for parameter in group.parameters:
            parameter.grad = torch.full_like(parameter, 1e-3)
    return make_optimiser(groups, recipe.optimiser, fused=fused).step


def distillation(*, stacked: bool) -> Run:
    """All style and content terms of ckd-base with elimination, and their gradients."""
    tokens = [320] * 3 + [244] * 3 + [190] * 3 + [153] * 3
    rgb, aux, teacher_rgb, teacher_aux = (
        [torch.randn(2, n, 768, requires_grad=side < 2) for n in tokens] for side in range(4)
    )

    def terms(xs: list[Tensor], ys: list[Tensor], term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        if stacked:
            return per_block(xs, ys, term).sum()
        return torch.stack([term(x[None], y[None])[0] for x, y in zip(xs, ys, strict=True)]).sum()

    def run() -> None:
        total = terms(rgb, aux, style_term) + terms(teacher_rgb, rgb, content_term)
        (total + terms(teacher_aux, aux, content_term)).backward()

    return run


def drawing(recipe: Recipe, root: Path) -> Run:
    """Four pairs, always other ones."""
    data = recipe.data.model_copy(update={"split": None})
    sources = open_folders(Folders((root,)), data, None)
    pairs = training_pairs(sources, data, model_spec(recipe.model.name).geometry, recipe.seed)
    epoch = iter(range(1_000_000))
    return lambda: [pairs[(number, i)] for number in (next(epoch),) for i in range(4)]


def compare(title: str, usual: Run, others: dict[str, Run], rounds: int) -> None:
    """Print each variant's processor time over the usual one's, round by round."""
    variants = {"usual": usual, **others}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            began = time.process_time()
            run()
            times[name] += [time.process_time() - began] if number else []
    for name in others:
        ratios = [a / b for a, b in zip(times[name], times["usual"], strict=True)]
        q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
        print(f"| {title} | {name} | {median:.2f} ({q1:.2f} to {q3:.2f}) |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.manual_seed(0)
    recipe = load_recipe("ckd-tiny-quick", ["model.weights=null"])
    step = partial(training_step, recipe, args.batch)
    print("| of | instead | time, usual = 1 |\n|---|---|---|")
    others = {
        "fp32": step(bf16=False),
        "plain AdamW": step(fused=False),
        "channels-last": step(last=True),
        "torch's fused attention": torch_attention(step()),
    }
    compare("a training step of ckd-tiny", step(), others, args.rounds)
    compare(
        "the fused optimiser", optimiser_step(recipe, fused=True), {"plain": optimiser_step(recipe, fused=False)}, 20
    )
    compare(
        "distillation in stacks", distillation(stacked=True), {"by blocks": distillation(stacked=False)}, args.rounds
    )
    for width, height in ((640, 512), (1920, 1080)):
        with tempfile.TemporaryDirectory(prefix="duotrack-") as room:
            whole, crops = Path(room) / "whole", Path(room) / "crops"
            for number in range(2):
                write_sequence(whole / f"made{number}", size=(width, height), frames=24)
            build_cache(open_lasher(whole), crops, CropCache())
            for name in ("ckd-base-stage1", "ckd-tiny-quick"):
                made = load_recipe(name)
                title = f"pairs of {name} from whole {width}x{height} frames"
                compare(title, drawing(made, whole), {"crop cache": drawing(made, crops)}, args.rounds)


if __name__ == "__main__":
    main()
