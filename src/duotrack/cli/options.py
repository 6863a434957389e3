"""Options that several commands have."""

from duotrack.errors import InputError, nearest


def check_choice(option: str, value: str, choices: list[str]) -> None:
    """Raise `InputError` where the value of `--option` is none of `choices`; names the nearest."""
    if value not in choices:
        raise InputError(f"--{option} {value} is not one of {', '.join(choices)}{nearest(value, choices)}")
