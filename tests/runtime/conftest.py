"""Networks that tests of the runtime export."""

import pytest

from small_net import put_into_zoo


@pytest.fixture
def zoo(monkeypatch):
    """Small models under the names "small", "plain", "ipl" and "patrack", their weights always the same."""
    return put_into_zoo(monkeypatch)
