"""The folder of a run: what was asked for, with what, on which data; enough to repeat it, or to refuse to resume."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from duotrack.errors import InputError
from duotrack.files import write_text
from duotrack.training.recipe import Recipe, to_yaml

FREE = ("summary", "workers", "log_every", "checkpoint_every")
"""Recipe keys that may differ when a run resumes: they change no weight."""


def start_folder(out: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    """Write recipe.yaml and run.json of a new run.

    Raises:
        InputError: the folder already holds something, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a new folder for the run")
    if out.exists() and any(out.iterdir()):
        what = "a run" if (out / "run.json").exists() else "other files"
        raise InputError(f"{out} holds {what} already; add --resume to continue a run, or choose another folder")
    write_text(out / "recipe.yaml", to_yaml(recipe))
    write_text(out / "run.json", json.dumps({**facts, **environment()}, indent=2) + "\n")


def check_folder(out: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    """Make sure that resuming in `out` continues the same run.

    Raises:
        InputError: names the first thing that differs: a recipe key, the data, the number of devices.
    """
    stored = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    wanted = yaml.safe_load(to_yaml(recipe))
    for key, old, new in differences(stored, wanted):
        if key not in FREE:
            raise InputError(
                f"--resume: {key} was {old!r} when the run in {out} began and is {new!r} now; "
                "give the same recipe and --set, or start in another folder"
            )
    began = json.loads((out / "run.json").read_text(encoding="utf-8"))
    for key, name in (("data", "the training data"), ("validation", "the validation data"), ("devices", "--devices")):
        old, new = began.get(key), facts.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            old, new = old["fingerprint"], new["fingerprint"]  # the same data may have moved
        if old != new:
            raise InputError(
                f"--resume: {name} differs from what the run in {out} began with ({_short(old)} then, "
                f"{_short(new)} now); give the same, or start in another folder"
            )


def differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted keys at which two nested mappings differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        found = []
        for key in keys:
            found += differences(old.get(key), new.get(key), f"{prefix}{key}.")
        return found
    return [] if old == new else [(prefix.rstrip("."), old, new)]


def environment() -> dict[str, Any]:
    """Versions, the commit where there is one, the machine, and the command line."""
    from importlib.metadata import version

    import torch

    from duotrack import __version__

    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "duotrack": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "pytorch_lightning": version("pytorch-lightning"),
        "platform": platform.platform(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cpus": os.cpu_count(),
    }


def _commit() -> str | None:
    git, here = shutil.which("git"), Path(__file__).parent
    if git is None:
        return None
    # only when this very file is tracked: an installed copy may lie inside somebody else's repository
    known = subprocess.run([git, "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, check=False)
    if known.returncode:
        return None
    done = subprocess.run([git, "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _short(value: Any) -> str:
    return str(value)[:12]
