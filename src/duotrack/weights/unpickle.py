"""Reading pickles without executing them.

A pickle is a program. This is a small interpreter of the binary opcodes (protocols 2 to 5) that builds nothing but
containers, numbers, strings and descriptions of tensors. It imports no module, calls nothing that a file names and sets
no attribute: the few globals in `described.RULES` have a meaning here, every other one becomes an `Inert` placeholder
that swallows whatever the file does to it. A `pickle.Unpickler` with an allow-list would not do: it lets a file set
attributes on what is allowed, and one five-byte opcode makes it reserve gigabytes.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from mmap import mmap

from duotrack.weights.described import RULES, DamagedError, Global, Inert, StorageRef, TensorRef, add, put, storage_ref

MAX_STEPS = 5_000_000
"""Opcodes in one pickle; a training checkpoint has about a hundred thousand."""


@dataclass
class Unpickled:
    """What a pickle described: its value, where it ended, the storages it names, the classes not read (with counts)."""

    value: object
    end: int
    storages: dict[str, StorageRef]
    inert: dict[str, int]


def unpickle(data: bytes | mmap, start: int = 0) -> Unpickled:
    """Interpret the pickle that starts at byte `start` of `data`.

    Raises:
        DamagedError: truncated, garbage, an opcode outside protocols 2 to 5, too long.
    """
    machine = _Machine(data, start)
    try:
        for _ in range(MAX_STEPS):
            code = machine.take(1)[0]
            if code == 0x2E:  # STOP
                return Unpickled(machine.stack.pop(), machine.at, machine.storages, machine.inert)
            step = _STEPS.get(code)
            if step is None:
                raise DamagedError(f"byte {machine.at - 1} is no pickle opcode of protocols 2 to 5 ({code:#04x})")
            step(machine)
    except (IndexError, KeyError) as error:  # popping an empty stack, reading an unset memo
        raise DamagedError(f"the pickle is inconsistent near byte {machine.at}") from error
    except UnicodeDecodeError as error:
        raise DamagedError(f"the pickle holds text that is not UTF-8 near byte {machine.at}") from error
    raise DamagedError(f"the pickle has more than {MAX_STEPS} steps")


@dataclass
class _Machine:
    data: bytes | mmap
    at: int
    stack: list[object] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    storages: dict[str, StorageRef] = field(default_factory=dict)
    inert: dict[str, int] = field(default_factory=dict)

    def take(self, count: int) -> bytes:
        """The next `count` bytes; the slice never exceeds the file, whatever `count` says."""
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise DamagedError("the pickle is cut off")
        self.at += count
        return piece

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 1000)
        if end < 0:
            raise DamagedError("the pickle is cut off")
        return self.take(end - self.at + 1)[:-1].decode()

    def since_mark(self) -> list[object]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def placeholder(self, what: str) -> Inert:
        what = ascii(what)[1:-1][:100]
        self.inert[what] = self.inert.get(what, 0) + 1
        return Inert(what)

    def call(self, function: object, args: object) -> None:
        """REDUCE, NEWOBJ, OBJ, INST: follow the rule of an allowed global, otherwise put a placeholder."""
        if isinstance(function, Global) and isinstance(args, tuple) and function.name in RULES:
            self.stack.append(RULES[function.name](args))
        else:
            name = function.name if isinstance(function, Global) else getattr(function, "what", type(function).__name__)
            self.stack.append(self.placeholder(name))


def _persistent(machine: _Machine) -> None:
    ref = storage_ref(machine.stack.pop())
    if ref is None:
        machine.stack.append(machine.placeholder("a whole module"))
    else:
        machine.storages.setdefault(ref.key, ref)
        machine.stack.append(ref)


def _global(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.stack.append(Global(f"{module}.{name}"))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise DamagedError("the pickle names a global by something else than text")
    machine.stack.append(Global(f"{module}.{name}"))


def _call(machine: _Machine) -> None:
    args, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, args)


def _call_with_keywords(machine: _Machine) -> None:
    machine.stack.pop()
    _call(machine)


def _call_marked(machine: _Machine) -> None:
    function, *args = machine.since_mark() or [None]
    machine.call(function, tuple(args))


def _instance(machine: _Machine) -> None:
    name = f"{machine.line()}.{machine.line()}"
    machine.call(Global(name), tuple(machine.since_mark()))


def _build(machine: _Machine) -> None:
    machine.stack.pop()  # the state of a placeholder, or attributes of a dictionary: neither is read
    if not isinstance(machine.stack[-1], Inert | dict | TensorRef):
        raise DamagedError("the pickle sets the state of a plain value")


def _pop(machine: _Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _pair(machine: _Machine) -> list[object]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _push(make: Callable[[_Machine], object]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(make(machine))


def _last(count: int) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        if len(machine.stack) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return step


def _remember(index: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.memo[index(machine)] = machine.stack[-1]

    return step


def _sized(width: int, decode: Callable[[bytes], object]) -> Callable[[_Machine], None]:
    return _push(lambda machine: decode(machine.take(machine.number(width))))


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _latin(data: bytes) -> str:
    return data.decode("latin-1")


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _skip(count: int) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.take(count)

    return step


def _fill(
    put_in: Callable[[object, list[object]], None], items: Callable[[_Machine], list[object]]
) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        new = items(machine)
        put_in(machine.stack[-1], new)

    return step


def _mark(machine: _Machine) -> None:
    machine.marks.append(len(machine.stack))


def _pop_mark(machine: _Machine) -> None:
    machine.since_mark()


def _one(machine: _Machine) -> list[object]:
    return [machine.stack.pop()]


def _dictionary(machine: _Machine) -> object:
    result: dict[object, object] = {}
    put(result, machine.since_mark())
    return result


_STEPS: Mapping[int, Callable[[_Machine], None]] = {
    ord(code): step
    for code, step in {
        "\x80": _skip(1),  # PROTO
        "\x95": _skip(8),  # FRAME
        "(": _mark,
        "0": _pop,
        "1": _pop_mark,
        "2": _push(lambda m: m.stack[-1]),
        "N": _push(lambda m: None),
        "\x88": _push(lambda m: True),
        "\x89": _push(lambda m: False),
        "K": _push(lambda m: m.number(1)),
        "M": _push(lambda m: m.number(2)),
        "J": _push(lambda m: _signed(m.take(4))),
        "\x8a": _sized(1, _signed),
        "\x8b": _sized(4, _signed),
        "G": _push(lambda m: struct.unpack(">d", m.take(8))[0]),
        "X": _sized(4, _utf8),
        "\x8c": _sized(1, _utf8),
        "\x8d": _sized(8, _utf8),
        "T": _sized(4, _latin),
        "U": _sized(1, _latin),
        "B": _sized(4, bytes),
        "C": _sized(1, bytes),
        "\x8e": _sized(8, bytes),
        "\x96": _sized(8, bytes),
        "]": _push(lambda m: []),
        ")": _push(lambda m: ()),
        "}": _push(lambda m: {}),
        "\x8f": _push(lambda m: Inert("set")),
        "l": _push(_Machine.since_mark),
        "t": _push(lambda m: tuple(m.since_mark())),
        "d": _push(_dictionary),
        "\x85": _last(1),
        "\x86": _last(2),
        "\x87": _last(3),
        "\x91": _push(lambda m: Inert(f"frozenset of {len(m.since_mark())}")),
        "a": _fill(add, _one),
        "e": _fill(add, _Machine.since_mark),
        "\x90": _fill(add, _Machine.since_mark),
        "s": _fill(put, _pair),
        "u": _fill(put, _Machine.since_mark),
        "q": _remember(lambda m: m.number(1)),
        "r": _remember(lambda m: m.number(4)),
        "\x94": _remember(lambda m: len(m.memo)),
        "h": _push(lambda m: m.memo[m.number(1)]),
        "j": _push(lambda m: m.memo[m.number(4)]),
        "c": _global,
        "\x93": _stack_global,
        "R": _call,
        "\x81": _call,
        "\x92": _call_with_keywords,
        "o": _call_marked,
        "i": _instance,
        "b": _build,
        "Q": _persistent,
    }.items()
}
