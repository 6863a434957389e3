"""Which earlier frame gives the second template of a network that takes two (docs/specs/tpf.md, section 6).

TPF (Lu et al., arXiv 2503.11247) takes the reliable frame that is nearest in time. How that is decided is ours, as are
all policies and numbers here:

* `latest_reliable`: the last frame whose confidence was at least `theta`;
* `window_best`: of the last `window` frames with at least `theta`, that with the largest confidence * exp(-age / eta);
* `interval`: every `min_interval`-th frame, whatever its confidence, for as long as it takes until the next one;
* `none`: never; the first frame's template stands in both places.

The confidence is the maximum of the raw score map. A frame is taken only where the box found in it is usable and where
it has every modality that the first frame had. Until then, and when what was taken is older than `window` frames (but
for `interval`), the first frame's template stands in both places.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from duotrack.errors import InputError, nearest
from duotrack.models.statistics import normalise
from duotrack.models.zoo import ModelSpec
from duotrack.tracking.crop import Square

Policy = Literal["latest_reliable", "window_best", "interval", "none"]
POLICIES: tuple[str, ...] = get_args(Policy)
LEAST_SIDE = 2.0
"""Pixels: a box with a shorter side gives no template."""


@dataclass(frozen=True, kw_only=True)
class TemplateRule:
    """When the second template is renewed.

    Raises:
        InputError: an unknown policy, or a number out of its range.
    """

    policy: str = "latest_reliable"
    """See `duotrack.tracking.template`."""
    theta: float | None = None
    """Least confidence of a frame that is taken, 0 to 1; None takes the model's own. It depends on how the head was
    trained: `duotrack analyze theta` fits it."""
    window: float = 100
    """Age in frames up to which a template is used; infinity is allowed."""
    min_interval: int = 1
    """Frames between two renewals, at least."""
    eta: float = 25.0
    """Age in frames that costs `window_best` a factor e."""
    reuse_crop: bool = False
    """Cut the template out of the search image that the network has fused already: cheaper, but less sharp, and black
    where it leaves that image."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InputError(f"no template policy is called {self.policy!r}{nearest(self.policy, list(POLICIES))}")
        if self.theta is not None and not 0 <= self.theta <= 1:
            raise InputError(f"template theta is {self.theta:g}: it is a confidence, 0 to 1")
        if not self.window >= 1:
            raise InputError(f"template window is {self.window:g} frames: at least 1, or inf")
        if self.min_interval < 1:
            raise InputError(f"template interval is {self.min_interval} frames: at least 1")
        if not (self.eta > 0 and math.isfinite(self.eta)):
            raise InputError(f"template eta is {self.eta:g} frames: above zero and finite")


def template_rule(**settings: Any) -> TemplateRule | None:
    """A `TemplateRule` from named fields, None meaning the default; None where nothing is asked for.

    Raises:
        InputError: an unknown field (names the nearest one), or values that `TemplateRule` refuses.
    """
    known = [field.name for field in fields(TemplateRule)]
    for name in settings:
        if name not in known:
            raise InputError(f"no template setting is called {name!r}{nearest(name, known)}")
    given = {name: value for name, value in settings.items() if value is not None}
    return TemplateRule(**given) if given else None


def rule_for(spec: ModelSpec, asked: TemplateRule | None) -> TemplateRule | None:
    """What a tracker of this model goes by: `asked`, or the default, with a theta; None where nothing is renewed.

    Raises:
        InputError: a renewal is asked of a model that takes one template.
    """
    if asked is not None and asked.policy == "none":
        return None
    if spec.templates < 2:
        if asked is None:
            return None
        raise InputError(f"{spec.name} takes one template: there is none to renew; leave template settings out")
    rule = asked or TemplateRule()
    return replace(rule, theta=spec.template_theta if rule.theta is None else rule.theta)


@dataclass(frozen=True, eq=False)
class Taken:
    """A template that was taken from `frame`; `merit`: log of its confidence plus frame / eta, comparable over time."""

    frame: int
    merit: float
    template: Any


@dataclass(frozen=True, eq=False)
class Renewal:
    """What the rule remembers: how many frames came after the first; when it last took one; what may be used.

    `taken` is in the order of time and of falling merit: the first one is the best, the others may outlive it.
    """

    frame: int = 0
    renewed: int = 0
    taken: tuple[Taken, ...] = ()

    @property
    def template(self) -> Any | None:
        """The second template; None: the first frame's."""
        return self.taken[0].template if self.taken else None


def renew(rule: TemplateRule, past: Renewal, confidence: float | None, take: Callable[[], Any]) -> Renewal:
    """Take one frame into account.

    Args:
        rule: with its theta.
        past: after the frame before.
        confidence: maximum of the frame's raw score map; None where no template can be had of the frame.
        take: makes the frame's template; called only where the rule wants it.
    """
    now = past.frame + 1
    assert rule.theta is not None
    wanted = confidence is not None and (rule.policy == "interval" or confidence >= rule.theta)
    taken, renewed = past.taken, past.renewed
    if wanted and now - past.renewed >= rule.min_interval:
        assert confidence is not None
        fresh = Taken(now, math.log(max(confidence, 1e-12)) + now / rule.eta, take())
        rivals = taken if rule.policy == "window_best" else ()
        taken, renewed = (*(old for old in rivals if old.merit > fresh.merit), fresh), now
    if rule.policy != "interval":
        taken = tuple(old for old in taken if now - old.frame <= rule.window)
    return Renewal(now, renewed, taken)


def usable(box: ArrayLike, height: int, width: int) -> bool:
    """Whether a template can be cut around a box as found, not clipped: `xywh`, sides, centre inside the frame."""
    x, y, w, h = np.asarray(box, np.float64).tolist()
    return min(w, h) >= LEAST_SIDE and 0 <= x + w / 2 < width and 0 <= y + h / 2 < height


def cut_again(image: Tensor, search: Square, wanted: Square, size: int) -> Tensor:
    """A part of a search crop as a template, resampled; black outside the crop.

    Args:
        image: (1, 3, S, S), the normalised crop of `search`.
        search, wanted: squares in the frame.
        size: side of the template, T.

    Returns:
        (1, 3, T, T), normalised.
    """
    centres = (torch.arange(size, device=image.device, dtype=torch.float32) + 0.5) * (wanted.size / size)
    columns, rows = (
        2 * (centres + start) / search.size - 1  # as grid_sample counts: -1 and 1 are the crop's rims
        for start in (wanted.x - search.x, wanted.y - search.y)
    )
    grid = torch.stack([columns.expand(size, size), rows[:, None].expand(size, size)], dim=-1)[None]
    black = normalise(torch.zeros(1, 3, 1, 1, device=image.device))
    return F.grid_sample(image.float() - black, grid, padding_mode="zeros", align_corners=False) + black
