"""Parameters that a network carries for its checkpoints' sake and never uses."""

import re
from collections.abc import Iterable

from torch import nn


def unused_parts(net: nn.Module) -> dict[str, int]:
    """What the forward pass of a freshly built network never looks at, and how many numbers each part has.

    A network says so by freezing those parameters when it is built. A part is the largest module (or the parameter
    itself) of which nothing is used; parts that differ in one number stand together: `blocks.{0,1}.norm`.
    """
    sizes = {name: p.numel() for name, p in net.named_parameters() if not p.requires_grad}
    used = {prefix for name, p in net.named_parameters() if p.requires_grad for prefix in _prefixes(name)}
    parts: dict[str, int] = {}
    for name, size in sizes.items():
        part = next(prefix for prefix in _prefixes(name) if prefix not in used)
        parts[part] = parts.get(part, 0) + size
    joined: dict[str, int] = {}
    for part, name in _joined(parts).items():
        joined[name] = joined.get(name, 0) + parts[part]
    return joined


def _prefixes(name: str) -> Iterable[str]:
    """`a`, `a.b`, `a.b.c` of `a.b.c`."""
    pieces = name.split(".")
    return (".".join(pieces[: i + 1]) for i in range(len(pieces)))


def _joined(parts: Iterable[str]) -> dict[str, str]:
    """Part -> its name, in which the first number stands together with those of like parts."""
    alike: dict[str, list[str]] = {}
    numbers: dict[str, list[str]] = {}
    for part in parts:
        pattern = re.sub(r"\.\d+\.", ".*.", part, count=1)
        alike.setdefault(pattern, []).append(part)
        numbers.setdefault(pattern, []).extend(re.findall(r"\.(\d+)\.", part)[:1])
    return {
        part: members[0] if len(members) == 1 else pattern.replace("*", "{" + ",".join(numbers[pattern]) + "}")
        for pattern, members in alike.items()
        for part in members
    }
