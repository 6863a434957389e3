"""A small CKD and a small recipe, and a script that trains them: `from toy_training import small_net`.

Run as a script it trains in a process of its own: DATA OUT [--resume] [--devices N] [--signal NAME BATCH]; the signal
is one that the process sends itself in the forward pass of that batch.
"""

import hashlib
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from duotrack.models.ckd import CKD
from duotrack.models.head import CenterHead
from duotrack.models.hiera import HieraBranch
from duotrack.training.data import Folders
from duotrack.training.recipe import Recipe, parse_recipe

RECIPE: dict[str, Any] = {
    "model": {"name": "ckd-tiny", "drop_path": 0.2},
    "method": {"teachers": False, "from_teachers": "none", "over_blocks": "mean", "mask_ratio": 0.25},
    "data": {"synthesis": {"probability": 0.5}},
    "optimiser": {"learning_rates": {"head": 1e-3, "branch": 2e-4}},
    "schedule": {"kind": "cosine", "warmup_steps": 2},
    "validation": {"every_epochs": 1, "pairs": 4},
    "epochs": 2,
    "pairs_per_epoch": 16,
    "batch_size": 4,
    "workers": 0,
    "log_every": 1,
    "checkpoint_every": 3,
}


def small_net(**options: Any) -> CKD:
    """ckd-tiny's crops, a thousandth of its size, stochastic depth on."""
    torch.manual_seed(0)
    return CKD(
        branch=partial(HieraBranch, dim=8, depth=2, drop_path=0.2),
        head=lambda inputs: CenterHead(inputs=inputs, channels=16, squeeze=16),
        **{"shared": True, "elimination": "none", **options},
    )


def small_recipe(**changes: Any) -> Recipe:
    """`RECIPE` with some top-level values replaced."""
    return parse_recipe({**RECIPE, **changes}, source="toy")


def main(arguments: list[str]) -> None:
    """Train, sending the signal where asked; write what this rank saw and ended with beside the run folder."""
    from duotrack.training.fit import fit

    data, out, *options = arguments
    torch.set_num_threads(1)
    net = small_net()
    seen: list[float] = []

    def look(_module: object, _arguments: object, inputs: dict[str, Any]) -> None:
        if net.training:
            seen.extend(inputs["search"][0].double().sum(dim=(1, 2, 3)).tolist())
            if "--signal" in options:
                name, batch = options[options.index("--signal") + 1 :][:2]
                if len(seen) == int(batch) * 4:
                    os.kill(os.getpid(), getattr(signal, name))

    net.register_forward_pre_hook(look, with_kwargs=True)
    devices = int(options[options.index("--devices") + 1]) if "--devices" in options else 1
    folders = Folders((Path(data),))
    recipe = small_recipe(batch_size=4 // devices)
    fit(recipe, folders, Path(out), validation=folders, resume="--resume" in options, devices=devices, net=net)
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters())).hexdigest()
    report = {"weights": digest, "seen": seen}
    Path(f"{out}-rank{os.environ.get('LOCAL_RANK', '0')}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
