"""From what a user names to experts: built in, user code, a published network, our adapter, or a cache."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from duotrack.errors import InputError, nearest
from duotrack.fusion.adapter import ADAPTERS, open_adapter
from duotrack.fusion.cache import FrameCache, open_cache
from duotrack.fusion.expert import Expert, MissingExpertError
from duotrack.fusion.published import METHODS, open_published
from duotrack.fusion.rules import RULES
from duotrack.fusion.user_code import imported

_log = logging.getLogger(__name__)

DEFAULT = ("laplacian", "guided", "gradmax")
"""Three, as the paper's figure 5 compares three fusion methods; which ones is our choice."""


class ExpertSource(BaseModel):
    """An expert and what it is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="laplacian, guided, gradmax, average, max; MODULE:FUNCTION or FILE.py:FUNCTION (your code is run); "
        "cache:FOLDER; cddfuse, emma, ddfm, tardal; or a model with an adapter"
    )
    weights: Path | None = Field(default=None, description="weights of a published network or of an adapter")
    code: str | None = Field(
        default=None,
        description="MODULE:FUNCTION or FILE.py:FUNCTION that builds a published network (your code is run); none: "
        "weights is a TorchScript file",
    )
    black: float | None = Field(
        default=None,
        ge=-1,
        le=0,
        description="what the output of a published network calls black (white is 1); none: what we know of it",
    )


def open_experts(
    sources: Sequence[str | ExpertSource], *, on_missing: Literal["error", "skip"] = "error"
) -> list[Expert | FrameCache]:
    """The experts that training distils from.

    Args:
        sources: a name each, or what one is made of.
        on_missing: what to do where weights or a cache are not there: an error, or leave that expert out and say so
            in the log. Weights over experts are then over those that are left.

    Raises:
        InputError: an unknown or doubled name, something that is there and cannot be used, an expert that is too slow
            to train with, or no expert at all.
    """
    experts: list[Expert | FrameCache] = []
    for source in sources:
        try:
            expert = open_expert(source)
        except MissingExpertError as error:
            if on_missing == "error":
                raise
            _log.warning("expert %s is left out: %s", _name(source), error)
            continue
        if isinstance(expert, Expert) and expert.slow:
            raise InputError(
                f"expert {expert.name} takes too long a frame to train with; fill a cache (duotrack fuse --cache-as) "
                "and name that: cache:FOLDER"
            )
        if expert.name in {other.name for other in experts}:
            raise InputError(f"expert {expert.name} is named twice; name it once")
        experts.append(expert)
    if not experts:
        asked = ", ".join(map(_name, sources)) or "none"
        raise InputError(f"no expert is left (asked for: {asked}); name at least one, for example {', '.join(DEFAULT)}")
    return experts


def open_expert(source: str | ExpertSource) -> Expert | FrameCache:
    """One expert; `ExpertSource` says what may be named.

    Raises:
        MissingExpertError: its weights or its cache are not there; names the file that was looked for.
        InputError: an unknown name, options that do not belong to it, code or weights that cannot be used.
    """
    source = ExpertSource(name=source) if isinstance(source, str) else source
    name = source.name
    if name in METHODS:
        return open_published(name, weights=source.weights, code=source.code, black=source.black)
    if source.code is not None or source.black is not None:
        raise InputError(f"expert {name} takes no code and no black level; they are for {', '.join(METHODS)}")
    if name in ADAPTERS:
        return open_adapter(name, source.weights)
    if source.weights is not None:
        raise InputError(f"expert {name} takes no weights; they are for {', '.join([*ADAPTERS, *METHODS])}")
    if name in RULES:
        return Expert(name, RULES[name], luma_only=True)
    if name.startswith("cache:"):
        return open_cache(name.removeprefix("cache:"))
    if ":" in name:
        return _user_expert(name)
    known = [*RULES, *ADAPTERS, *METHODS]
    raise InputError(
        f"no expert is called {name!r}{nearest(name, known)}; your own is MODULE:FUNCTION or FILE.py:FUNCTION"
    )


def _user_expert(name: str) -> Expert:
    """A user's function; what `Expert` says of itself may stand on it as attributes."""
    fuse = imported(name)
    if isinstance(fuse, Expert):
        return fuse
    return Expert(
        name=str(getattr(fuse, "name", name)),
        fuse=fuse,
        version=str(getattr(fuse, "version", "1")),
        divisor=getattr(fuse, "divisor", 1),
        luma_only=bool(getattr(fuse, "luma_only", False)),
        slow=bool(getattr(fuse, "slow", False)),
    )


def _name(source: str | ExpertSource) -> str:
    return source if isinstance(source, str) else source.name
