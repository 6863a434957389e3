"""duotrack: follow one object through a visible video and an aligned thermal, depth or event one.

>>> import duotrack
>>> tracker = duotrack.load_tracker("ckd-tiny")
"""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["FramePair", "InputError", "TrackResult", "build_net", "load_tracker"]

if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
    # Read when torch loads GNU's OpenMP. Its own default lets waiting threads circle for milliseconds: beside a busy
    # program a network then takes three times as long as with this, alone a twentieth less (docs/speed.md)
    os.environ["GOMP_SPINCOUNT"] = "5000"

if TYPE_CHECKING:
    from duotrack.errors import InputError
    from duotrack.frames import FramePair, TrackResult
    from duotrack.tracking.load import load_tracker
    from duotrack.weights.build import build_net

_HOMES = {
    "FramePair": "duotrack.frames",
    "InputError": "duotrack.errors",
    "TrackResult": "duotrack.frames",
    "build_net": "duotrack.weights.build",
    "load_tracker": "duotrack.tracking.load",
}


def __getattr__(name: str) -> Any:
    # torch takes a second to import: wait for it only when a name that needs it is used
    if name not in _HOMES:
        raise AttributeError(f"module 'duotrack' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
