"""What fusing is for: a target that shows in one modality only, chosen for each sequence (docs/specs/tpf.md, 10)."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from duotrack.datasets.layouts import open_lasher
from duotrack.models.head import CenterHead
from duotrack.models.pixel_fusion import PixelFusionAdapter
from duotrack.models.tpf import TPF, RelevanceGate
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import Geometry
from duotrack.training.augmentation import Augmentation, Jitter
from duotrack.training.methods.tpf import tpf_check, tpf_step
from duotrack.training.methods.tpf_settings import TPFSettings
from duotrack.training.pairs import PairDataset, Source
from duotrack.training.sampling import Sampling

GEOMETRY = Geometry(template_size=32, search_size=64)
STEPS, BATCH, CHECKED = 200, 16, 256
SIDE = 128


def write_sequences(root: Path, count: int, seed: int) -> PairDataset:
    """Sequences of clouds and a bright patch; the patch is in `visible` or in `infrared`, never in both."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        folder = root / f"{number:02d}"
        clouds = {}
        for modality in ("visible", "infrared"):
            (folder / modality).mkdir(parents=True)
            rough = rng.uniform(40, 150, (8, 8, 3 if modality == "visible" else 1))
            clouds[modality] = cv2.resize(rough, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).reshape(SIDE, SIDE, -1)
        shown = ("visible", "infrared")[number % 2]
        w, h = rng.integers(14, 22, 2)
        x, y = rng.uniform(20, 90, 2)
        step = rng.uniform(-2, 2, 2)
        rows = []
        for frame in range(20):
            x, y = np.clip([x + step[0], y + step[1]], 4, SIDE - 26)
            rows.append(f"{int(x)},{int(y)},{w},{h}\n")
            for modality, cloud in clouds.items():
                image = cloud + rng.normal(0, 8, cloud.shape)
                if modality == shown:
                    image[int(y) : int(y) + h, int(x) : int(x) + w] = rng.normal(235, 8, (h, w, image.shape[2]))
                image = np.broadcast_to(image, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
                assert cv2.imwrite(str(folder / modality / f"{frame:06d}.png"), np.ascontiguousarray(image))
        (folder / "init.txt").write_text("".join(rows))
    return PairDataset(
        [Source("toy", open_lasher(root))],
        geometry=GEOMETRY,
        sampling=Sampling(dynamic=True),
        jitter=Jitter(centre=2.5),
        augmentation=Augmentation(grey=0, brightness=0),
    )


def draw(pairs: PairDataset, epoch: int, count: int, seen: str) -> dict[str, Tensor]:
    """A batch; with `seen` "rgb" or "aux" both images are that sensor's, as in tracking without the other one."""
    items = [pairs[epoch, i] for i in range(count)]
    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    if seen != "both":
        place = ("rgb", "aux").index(seen)
        for view in ("template", "dynamic", "search"):
            batch[view] = batch[view][:, [place, place]]
    return batch


def tracker() -> TPF:
    torch.manual_seed(0)
    return TPF(
        fusion=partial(PixelFusionAdapter, width=8, stride=4, d_state=4),
        branch=partial(VisionTransformer, template_size=32, search_size=64, dim=64, depth=2, heads=4, drop_path=0.0),
        head=lambda inputs: CenterHead(inputs=inputs, channels=32),
        gate=lambda dim: RelevanceGate(dim=dim, bottleneck=16),
    )


def trained(pairs: PairDataset, seen: str) -> TPF:
    """`STEPS` steps of stage 2 on what `seen` says."""
    net, settings = tracker().train(), TPFSettings()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=STEPS)
    for step in range(STEPS):
        optimiser.zero_grad()
        tpf_step(net, draw(pairs, step, BATCH, seen), settings).total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


def quality(net: TPF, pairs: PairDataset, seen: str) -> float:
    """Mean IoU on held-out sequences."""
    with torch.inference_mode():
        return float(tpf_check(net, draw(pairs, 0, CHECKED, seen), TPFSettings())["iou"])


@pytest.mark.slow
def test_the_fused_tracker_beats_itself_on_either_modality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learning = write_sequences(tmp_path / "train", 24, seed=0)
    held_out = write_sequences(tmp_path / "test", 8, seed=1)
    nets = {seen: trained(learning, seen) for seen in ("both", "rgb", "aux")}
    made = {seen: quality(net, held_out, seen) for seen, net in nets.items()}
    same = {seen: quality(nets["both"], held_out, seen) for seen in ("rgb", "aux")}
    with capsys.disabled():
        three = ", ".join(f"{seen} {value:.3f}" for seen, value in made.items())
        other = ", ".join(f"{seen} {value:.3f}" for seen, value in same.items())
        print(
            f"\nmean IoU on held-out sequences, each trained on what it sees: {three}; weights of both, seeing {other}"
        )
    assert made["both"] > 0.5
    for seen in ("rgb", "aux"):
        assert made["both"] > made[seen] + 0.1
        assert made["both"] > same[seen] + 0.1
