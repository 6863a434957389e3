"""Presets and what they say of themselves."""

import numpy as np
import pytest

from duotrack.datasets.benchmarks import BENCHMARKS, benchmark
from duotrack.errors import InputError
from duotrack.evaluation.protocols import PRESETS, preset


@pytest.mark.parametrize("which", BENCHMARKS.values(), ids=BENCHMARKS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset(which, name: str) -> None:  # type: ignore[no-untyped-def]
    if name not in which.protocols:
        with pytest.raises(InputError, match=f"{which.title} has no protocol '{name}'"):
            preset(name, which)
        return
    made = preset(name, which)
    assert made.describe().startswith(f"{name}: ")
    assert ("MPR" in made.describe()) == (len(which.labels) == 2) == made.best_of_two
    assert (made.rounding == "columns") == (name == "toolkit")
    assert preset(None, which).preset == which.protocols[0]


@pytest.mark.parametrize(
    ("title", "name", "words"),
    [
        ("gtot", "toolkit", "MPR at < 5 px, MSR as area over 0:0.05:1, result numbers rounded, pooled over frames"),
        ("gtot", "matlab", "MPR at < 5 px, MSR as area over 0:0.02:1, corner results rounded, pooled over frames"),
        ("rgbt234", "plain", "MPR at <= 20 px, MSR as mean over 0:0.05:1, no rounding, mean over sequences"),
        (
            "lasher",
            "plain",
            "PR at <= 20 px, SR as mean over 0:0.05:1, NPR at <= 0.2, no rounding, corners with +1, first frame given, "
            "invalid boxes repeat the last, absent frames hits for PR and NPR, misses for SR, mean over sequences",
        ),
        (
            "visevent",
            "matlab",
            "PR at <= 20 px, SR as mean over 0:0.05:1, no rounding, first frame given, invalid boxes repeat the last, "
            "absent frames misses, mean over sequences, complete failures left out",
        ),
    ],
)
def test_words(title: str, name: str, words: str) -> None:
    assert preset(name, benchmark(title)).describe() == f"{name}: {words}"


def test_both_definitions_of_npr() -> None:
    assert "NPR as area over [0, 0.5]" in preset("toolkit", benchmark("lasher"), npr="area").describe()
    assert preset("toolkit", benchmark("rgbt234"), npr="area").npr is None
    with pytest.raises(InputError, match="npr 'mean' is not known"):
        preset("toolkit", benchmark("lasher"), npr="mean")


def test_what_is_unverified_is_said() -> None:
    assert "unverified" in preset("plain", benchmark("vtuav-st")).describe()
    assert "unverified" in preset("matlab", benchmark("rgbt234")).describe()
    assert "unverified" not in preset("toolkit", benchmark("rgbt234")).describe()


def test_unknown() -> None:
    with pytest.raises(InputError, match="protocol 'toolkti' is not known; did you mean 'toolkit'"):
        preset("toolkti", benchmark("gtot"))


def test_thresholds_are_exact_fractions() -> None:
    rules = preset("toolkit", benchmark("gtot"))
    assert rules.success_thresholds.tolist() == [k / 20 for k in range(21)]
    assert preset("matlab", benchmark("gtot")).success_thresholds.tolist() == [k / 50 for k in range(51)]
    np.testing.assert_array_equal(rules.precision_thresholds, np.arange(51) / 2)
    np.testing.assert_array_equal(preset("toolkit", benchmark("lasher")).precision_thresholds, np.arange(51))
