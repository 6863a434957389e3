"""Networks that tests of the runtime export, and the processor's matrix units where they are."""

from collections.abc import Iterator

import pytest

from duotrack.runtime import tile_library
from small_net import put_into_zoo
from units import TYPES


@pytest.fixture
def zoo(monkeypatch):
    """Small models under the names "small", "plain", "ipl" and "patrack", their weights always the same."""
    return put_into_zoo(monkeypatch)


@pytest.fixture(autouse=True, scope="package")
def _no_switch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DUOTRACK_MATRIX_UNITS", raising=False)
        yield


@pytest.fixture
def matrix_units() -> None:
    """Skips a test where there are none."""
    if not tile_library.ready():
        pytest.skip("this processor has no matrix units, or no compiler is here to reach them")


@pytest.fixture(params=TYPES)
def precision(request: pytest.FixtureRequest) -> str:
    """Those that the units compute in."""
    return str(request.param)
