"""The error type for anything a user handed in that cannot be used."""


class InputError(ValueError):
    """Bad input from outside: a file, an option, a recipe, a frame, a box.

    The message is one line that says what was wrong, what was got and how to mend it. The command line prints it
    and exits with code 2; in Python it is an ordinary `ValueError`.
    """


def nearest(name: str, known: list[str]) -> str:
    """A hint for a misspelt name: `"; did you mean 'x'?"`, or the list of what is known."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
