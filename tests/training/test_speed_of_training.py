"""Training speed on made-up data."""

import pytest

from duotrack.datasets.layouts import open_lasher
from duotrack.errors import InputError
from duotrack.training import speed
from duotrack.training.recipe import load_recipe
from duotrack.training.speed import TrainingSpeed, measure_training, write_sequence

SMALL = ["batch_size=1", "workers=0", "precision=fp32"]


def test_shares_and_rates():
    measured = TrainingSpeed("cpu", 4, [1.0, 3.0], [0.5, 0.5])
    assert measured.pairs_per_second == 2
    assert measured.waiting_share == 0.25


def test_made_up_sequences_are_data_like_any_other(tmp_path):
    write_sequence(tmp_path / "one", size=(96, 64), frames=3)
    (sequence,) = open_lasher(tmp_path)
    assert len(sequence) == 3
    assert sequence.read(2).available == ("rgb", "aux")
    assert sequence.visible.all()


def test_a_recipe_is_timed_without_its_checkpoint_or_data(monkeypatch):
    monkeypatch.setattr(speed, "WARM_UP", 1)
    measured = measure_training(load_recipe("ckd-tiny-quick", SMALL), batches=2, size=(96, 64), device="cpu")
    assert len(measured.seconds) == len(measured.waiting) == 2
    assert all(0 < waited < took for waited, took in zip(measured.waiting, measured.seconds, strict=True))


def test_no_batches_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        measure_training(load_recipe("ckd-tiny-quick", SMALL), batches=0, device="cpu")
