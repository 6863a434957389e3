"""What a library does to logging while it quantises is undone."""

import logging

import pytest

from duotrack.runtime.quantise import logging_kept


class Own(logging.Logger):
    """Somebody's kind of logger."""


def vandalise(handler: logging.Handler) -> None:
    """Everything that a library might do, and a test runner's handler on a foreign logger."""
    logging.setLoggerClass(Own)
    logging.disable(logging.CRITICAL)
    logging.root.addHandler(logging.NullHandler())
    logging.root.addFilter(lambda record: False)
    for name in (None, "duotrack", "vandalised"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL)
        logger.disabled, logger.propagate = True, False
    handler.setLevel(logging.CRITICAL)
    logging.getLogger("vandalised").removeHandler(handler)


@pytest.mark.parametrize("fails", [False, True])
def test_logging_is_as_before(fails):
    handler = logging.NullHandler()
    logger = logging.getLogger("vandalised")
    logger.addHandler(handler)
    watched = [logging.root, logging.getLogger("duotrack"), logger]

    def state() -> list[object]:
        each = [(w.level, w.disabled, w.propagate, list(w.handlers), list(w.filters)) for w in watched]
        return [*each, handler.level, logging.getLoggerClass(), logging.root.manager.disable]

    before = state()
    try:
        with logging_kept():
            vandalise(handler)
            assert state() != before
            if fails:
                raise RuntimeError("in the middle")
    except RuntimeError:
        assert fails
    assert state() == before
    assert logger.isEnabledFor(logging.WARNING)
    logger.removeHandler(handler)
