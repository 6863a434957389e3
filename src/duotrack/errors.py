"""The error type for anything a user handed in that cannot be used, and words for its message."""

from collections.abc import Sequence


class InputError(ValueError):
    """Bad input from outside: a file, an option, a recipe, a frame, a box.

    The message is one line that says what was wrong, what was got and how to mend it. The command line prints it
    and exits with code 2; in Python it is an ordinary `ValueError`.
    """


def check_type(name: str, value: object, kinds: tuple[type, ...], words: str) -> None:
    """An argument is of one of these types (a bool is no number), which `words` names for the message.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InputError(f"{name} is {value!r}: give {words}")


def nearest(name: str, known: list[str]) -> str:
    """A hint for a misspelt name: `"; did you mean 'x'?"`, or what is known (of hundreds of names the first few)."""
    import difflib

    spelt = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), list(spelt), n=1)
    return f"; did you mean {spelt[close[0]]!r}?" if close else f"; known: {first_few(sorted(known), 30)}"


def first_few(names: Sequence[str], count: int = 3) -> str:
    """The first `count` names, and dots where there are more: `"a, b, c, ..."`."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
