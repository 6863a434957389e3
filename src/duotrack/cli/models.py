"""Placeholder."""


def models() -> None:
    """Not written yet."""
    raise NotImplementedError
