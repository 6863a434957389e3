"""What a measurement of speed says of the machine that it was made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from duotrack.runtime.tile_library import suited

_CHOICES = ("DUOTRACK_KERNELS", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")


def about_machine() -> dict[str, Any]:
    """Facts for a report, as JSON holds them.

    `processor` its name, `kernels` its units that ours are for (None: torch multiplies), `threads` how many torch
    uses, `load` the processes that wanted a core in the last minute (None where the system does not count them): where
    that is far above 0 before a measurement, others had a part in it. `environment`: what is set that changes speed.
    """
    return {
        "processor": _processor(),
        "kernels": next(iter(suited()), None),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "environment": {name: os.environ[name] for name in _CHOICES if name in os.environ},
        "duotrack": version("duotrack"),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not a Linux
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
