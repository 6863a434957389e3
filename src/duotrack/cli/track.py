"""Placeholder."""


def track() -> None:
    """Not written yet."""
    raise NotImplementedError
