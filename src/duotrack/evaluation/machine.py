"""What a measurement of speed says of the machine that it was made on."""

import os
import platform
from pathlib import Path

import torch

from duotrack.runtime.tile_library import ready


def about_machine() -> dict[str, str | int | float | bool | None]:
    """Facts for a report, as JSON holds them.

    `processor` its name, `matrix_units` whether networks multiply with its units for bf16, `threads` how many torch
    uses, `load` the processes that wanted a core in the last minute (None where the system does not count them): where
    that is far above 0 before a measurement, others had a part in it.
    """
    return {
        "processor": _processor(),
        "matrix_units": ready(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not a Linux
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
