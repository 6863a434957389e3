"""The class of a cut-out by its path."""

from pathlib import PurePath

import pytest

from duotrack.datasets.simulation.classes import kind_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("set/cyclists/3.png", "person"),
        ("set/motorcycle/1.png", "vehicle"),
        ("set/bike/3.png", "vehicle"),
        ("scratch_ballerina_0a1b2c.png", "person"),
        ("scratch_baby_0a1b2c.png", "person"),
        ("scratch_convertible3_0a1b2c.png", "vehicle"),
        ("scratch_duck1_0a1b2c.png", "animal"),
        ("scratch_crab1_a_0a1b2c.png", "animal"),
        ("bee1.png", "flyer"),
        ("scratch_fire_hydrant_0a1b2c.png", "thing"),
        ("scratch_lamp_0a1b2c.png", "thing"),
        ("scratch_palmtree_0a1b2c.png", "thing"),
        ("scratch_wizardhat_0a1b2c.png", "thing"),
        ("police_car.png", "vehicle"),
        ("PolarBear2.png", "animal"),
        ("women/12.png", "person"),
        ("butterflies.png", "flyer"),
        ("buses_and_bikes.png", "vehicle"),
        ("crops/train/0001.png", "thing"),
        ("train/dog_0001.png", "animal"),
        ("trains/0001.png", "vehicle"),
        ("trams/0001.png", "vehicle"),
        ("locomotive.png", "vehicle"),
        ("people/bear.png", "person"),
        ("Animals/fire-engine.png", "animal"),
        ("vehicles/people/1.png", "person"),  # the innermost
        ("flyers/1.png", "flyer"),
        ("things/car.png", "thing"),
        ("old_cars_2/1.png", "vehicle"),
        ("12bee3.png", "thing"),  # part of a hash
        ("glass.png", "thing"),
        ("1.png", "thing"),
    ],
)
def test_kinds(path: str, kind: str) -> None:
    assert kind_of(PurePath(path)) == kind


@pytest.mark.parametrize(
    ("folder", "kind"), [("people", "person"), ("Vehicles", "vehicle"), ("man", "thing"), ("pictures", "thing")]
)
def test_the_folder_that_was_given(folder: str, kind: str) -> None:
    assert kind_of(PurePath("box.png"), folder) == kind
    assert kind_of(PurePath("dogs/box.png"), folder) == "animal"
