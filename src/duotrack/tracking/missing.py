"""What a tracker does about a sensor that has dropped out: the policies, and what they need to remember.

A policy decides what the network is shown in the search region of a frame that lacks one modality:

* `model`: nothing; the network treats the missing modality by its own means (CKD: the other's features);
* `zeros`: a black image;
* `copy`: the other modality's image;
* `hold-frame`: the last image which that sensor gave, cropped where the target is looked for now;
* `hold-box`: the network is not asked at all; the box is held, the score is 0.

It concerns a sensor from its first image on. One that was never there has not dropped out: whatever the policy, the
network gets nothing for it, so that a run with one camera is the same under all of them, and `hold-frame` always has a
frame to hold. Templates are never replaced: a modality without one is searched with the other's. With both modalities
missing the box is held under every policy (docs/specs/ipl.md, sections 6 and 8.3). Whatever the network was shown,
results name the modalities that the frame had.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from duotrack.errors import InputError, nearest
from duotrack.frames import Image

Policy = Literal["model", "zeros", "copy", "hold-frame", "hold-box"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT_POLICY: Policy = "model"
"""For every model; chosen by measurement, see docs/missing.md."""
Images = tuple[Image | None, Image | None]


@dataclass(frozen=True, eq=False)
class Past:
    """What the sensors (rgb, aux) have given so far: `ever` anything; the `last` image where the policy needs it."""

    ever: tuple[bool, bool] = (False, False)
    last: Images = (None, None)


def missing_policy(name: str) -> Policy:
    """The policy of that name.

    Raises:
        InputError: no such policy; names the nearest one.
    """
    for policy in POLICIES:
        if policy == name:
            return policy
    raise InputError(f"no policy for missing modalities is called {name!r}{nearest(name, list(POLICIES))}")


def shown_instead(policy: Policy, images: Images, past: Past) -> Images:
    """What the network is shown of a frame (rgb, aux); (None, None): it is not asked, and the box is held.

    `past` is what came before this frame.
    """
    there = next((image for image in images if image is not None), None)
    gone = [ever and image is None for ever, image in zip(past.ever, images, strict=True)]
    if there is None or policy == "model" or not any(gone):
        return images
    if policy == "hold-box":
        return None, None
    stand_in = {"zeros": np.zeros_like(there), "copy": there, "hold-frame": past.last[gone.index(True)]}[policy]
    return (stand_in, images[1]) if gone[0] else (images[0], stand_in)


def remember(policy: Policy, images: Images, past: Past) -> Past:
    """`past` with this frame added; images are copied, since callers may decode the next one into the same array."""
    rgb, aux = (ever or image is not None for ever, image in zip(past.ever, images, strict=True))
    if policy != "hold-frame":
        return Past((rgb, aux))
    kept = [last if image is None else image.copy() for last, image in zip(past.last, images, strict=True)]
    return Past((rgb, aux), (kept[0], kept[1]))
