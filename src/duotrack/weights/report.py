"""Which weights a network takes: a strict comparison of keys and shapes, and loading that insists on it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from duotrack.errors import InputError, first_few
from duotrack.weights.keymap import Shape, shown

_log = logging.getLogger(__name__)
_FAMILIES = 4
_KEYS = 2


@dataclass(frozen=True)
class KeyReport:
    """How weights differ from what a network wants.

    `missing`: keys it wants and does not get; `unexpected`: keys it gets and does not know; `misshaped`: key, wanted
    shape, shape it got.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[tuple[str, Shape, Shape], ...] = ()

    def __bool__(self) -> bool:
        """True when there is something to report."""
        return bool(self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        """One bounded line: counts, and the first keys of the largest families."""
        parts = [
            f"{word} {_grouped(keys)}"
            for word, keys in (("missing", self.missing), ("unexpected", self.unexpected))
            if keys
        ]
        if self.misshaped:
            some = [f"{shown(key)} wants {list(wanted)}, got {list(got)}" for key, wanted, got in self.misshaped]
            parts.append(f"of other shape {len(self.misshaped)}: {first_few(some)}")
        return "; ".join(parts) or "every key fits"


def _grouped(keys: tuple[str, ...]) -> str:
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.split(".")[0], []).append(key)
    largest = sorted(groups.values(), key=len, reverse=True)
    texts = []
    for group in largest[:_FAMILIES]:
        some = first_few([shown(key, 60) for key in group], _KEYS)
        texts.append(f"{len(group)} like {some}" if len(group) > _KEYS else some)
    more = f", {len(largest) - _FAMILIES} more families" if len(largest) > _FAMILIES else ""
    return f"{len(keys)} ({'; '.join(texts)}{more})"


def compare(
    wanted: Mapping[str, Shape],
    got: Mapping[str, Shape],
    *,
    allow_missing: tuple[str, ...] = (),
    allow_unexpected: tuple[str, ...] = (),
) -> KeyReport:
    """Compare keys and shapes; keys that start with one of the `allow_*` prefixes may be missing or left over."""
    return KeyReport(
        missing=tuple(key for key in wanted if key not in got and not key.startswith(allow_missing)),
        unexpected=tuple(key for key in got if key not in wanted and not key.startswith(allow_unexpected)),
        misshaped=tuple((key, wanted[key], got[key]) for key in wanted if key in got and wanted[key] != got[key]),
    )


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Key -> shape."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def load_weights(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    allow_missing: tuple[str, ...] = (),
    allow_unexpected: tuple[str, ...] = (),
) -> None:
    """Load `tensors` into `net`, casting to its types; what is allowed to be missing keeps its values.

    A network on the meta device takes the tensors over (no copy where type and layout already fit).

    Args:
        net: any network. tensors: by key.
        allow_missing, allow_unexpected: prefixes of keys that may be missing or left over.

    Raises:
        InputError: keys or shapes differ (with a report), integers or infinite values where numbers are wanted.
    """
    wanted = net.state_dict()
    report = compare(
        shapes_of(wanted), shapes_of(tensors), allow_missing=allow_missing, allow_unexpected=allow_unexpected
    )
    if report:
        raise InputError(
            f"the weights do not fit this network: {report}; use a checkpoint of the same model "
            "('duotrack weights inspect' says what a file is)"
        )
    chosen = {key: tensors[key] for key in wanted if key in tensors}
    for key, tensor in chosen.items():
        if wanted[key].is_floating_point() and not (tensor.is_floating_point() and bool(tensor.isfinite().all())):
            raise InputError(
                f"{key} holds integers, infinite or undefined values instead of finite weights; use another checkpoint"
            )
    takes_over = any(tensor.is_meta for tensor in wanted.values())
    if takes_over:
        taken: set[int] = set()
        chosen = {key: _owned(tensor, wanted[key].dtype, taken) for key, tensor in chosen.items()}
    net.load_state_dict(chosen, strict=False, assign=takes_over)
    kept, left = len(wanted) - len(chosen), len(tensors) - len(chosen)
    if kept or left:
        _log.info("%d keys loaded, %d keep their initial values, %d of the file not used", len(chosen), kept, left)


def _owned(tensor: Tensor, dtype: torch.dtype, taken: set[int]) -> Tensor:
    """`tensor` itself if nobody else holds its memory, else a contiguous copy (several branches may share a source)."""
    cast = tensor.detach().to(dtype)
    memory = cast.untyped_storage()
    if memory.data_ptr() in taken or not cast.is_contiguous() or memory.nbytes() != cast.nbytes:
        cast = cast.clone(memory_format=torch.contiguous_format)
    taken.add(cast.untyped_storage().data_ptr())
    return cast
