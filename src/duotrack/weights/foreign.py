"""Checkpoints of networks that are not ours: every tensor by where it stands, and the ones that fit a given network."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from duotrack.errors import InputError, first_few
from duotrack.weights.described import DamagedError, TensorRef
from duotrack.weights.keymap import shown
from duotrack.weights.pickled import open_legacy, open_zip, read_tensors
from duotrack.weights.read import container
from duotrack.weights.report import shapes_of
from duotrack.weights.safetensor import open_safetensors, read_safetensors

_DEPTH = 5
_MOST = 100_000
"""Tensors in one file; a dictionary that holds itself several times over would have more."""


def read_foreign(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by its keys, joined with dots; nothing in the file is run.

    Args:
        path: safetensors, or a file of `torch.save` with dictionaries of tensors, nested or not.

    Raises:
        InputError: no such file, damaged, or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; check the path")
    try:
        kind = container(path)
        if kind == "safetensors":
            tensors = read_safetensors(path, list(open_safetensors(path)[0]))
        else:
            pickled = (open_zip if kind == "zip" else open_legacy)(path)
            tensors = read_tensors(path, pickled.places, _flat(pickled.value))
    except DamagedError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error}; download or copy it again") from error
    if not tensors:
        raise InputError(f"{path} holds no dictionary of tensors; save the network's state dict")
    return tensors


def _flat(value: object) -> dict[str, TensorRef]:
    found: dict[str, TensorRef] = {}
    waiting = [("", value, 0)]
    while waiting:
        prefix, node, depth = waiting.pop()
        if not isinstance(node, dict) or depth == _DEPTH:
            continue
        for key, entry in node.items():
            if isinstance(entry, TensorRef):
                found[f"{prefix}{key}"] = entry
            elif isinstance(entry, dict):
                waiting.append((f"{prefix}{key}.", entry, depth + 1))
        if len(found) + len(waiting) > _MOST:
            raise DamagedError(f"it holds more than {_MOST} entries")
    return found


def find_part(tensors: Mapping[str, Tensor], net: nn.Module, source: str) -> dict[str, Tensor]:
    """The tensors that are all of `net`'s state dict, under its own keys.

    They are found by keys and shapes, whatever the file calls the part that they stand in. Where such a part is also
    found deeper inside another one (networks are built of equal blocks), the one further out counts.

    Args:
        tensors: as `read_foreign` gives them. net: what they shall fit. source: name of the file, for messages.

    Raises:
        InputError: no part of the file fits, or several that stand equally far out.
    """
    wanted = shapes_of(net.state_dict())
    if not wanted:
        return {}
    first = next(iter(wanted))
    starts = [key.removesuffix(first) for key in tensors if key == first or key.endswith(f".{first}")]
    fitting = [
        start
        for start in starts
        if all(key in wanted for key in (k.removeprefix(start) for k in tensors if k.startswith(start)))
        and all(start + key in tensors and tuple(tensors[start + key].shape) == wanted[key] for key in wanted)
    ]
    if not fitting:
        raise InputError(
            f"{source}: nothing in it fits {type(net).__name__}, which wants {len(wanted)} tensors like "
            f"{first_few(list(wanted))}; it holds {len(tensors)} like {first_few([shown(key, 60) for key in tensors])}"
        )
    outermost = min(map(_depth, fitting))
    chosen = [start for start in fitting if _depth(start) == outermost]
    if len(chosen) > 1:
        raise InputError(
            f"{source}: {first_few([shown(start, 60) for start in chosen])} fit {type(net).__name__} equally; keep one"
        )
    return {key: tensors[chosen[0] + key] for key in wanted}


def _depth(start: str) -> int:
    return sum(part not in ("", "module") for part in start.split("."))
