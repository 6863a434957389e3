"""Networks that tests of the runtime export."""

import pytest

from duotrack.models.zoo import MODELS
from duotrack.runtime import backends, export
from small_net import SPEC, Plain, small_ckd


@pytest.fixture
def zoo(monkeypatch):
    """Two small models under the names "small" and "plain", their weights always the same."""
    made = {"small": lambda **options: small_ckd(**options), "plain": lambda **options: Plain().eval()}
    monkeypatch.setitem(MODELS, "small", SPEC)
    monkeypatch.setitem(MODELS, "plain", SPEC.__class__(**{**vars(SPEC), "name": "plain"}))

    def build(name, *, weights=None, elimination=None):
        return made[name](elimination=elimination or "mce") if name == "small" else made[name]()

    for module in (export, backends):
        monkeypatch.setattr(module, "build_net", build)
    return build
