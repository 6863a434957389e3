"""Simulation as a source of training pairs."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.datasets.layouts import open_lasher
from duotrack.errors import InputError
from duotrack.models.zoo import Geometry
from duotrack.training.data import (
    DataSettings,
    Folders,
    describe,
    hold_out,
    open_training,
    training_pairs,
    warn_of_drawn,
)
from duotrack.training.fit import fit
from duotrack.training.pairs import PairDataset, Source, lacks_one
from sequences import write_sequence
from toy_training import small_net, small_recipe

GEOMETRY = Geometry(template_size=32, search_size=64)
SCENES = {"width": 128, "height": 96}


def settings(**changes: object) -> DataSettings:
    simulation = {"ratio": 1.0, "max_gap": 30, "scenes": SCENES, **changes}
    return DataSettings.model_validate({"simulation": simulation})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    image = cv2.blur(np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype(np.uint8), (3, 3))
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), image)
    return tmp_path / "photos"


def test_pairs_of_simulation_alone(photos: Path) -> None:
    sources = open_training(Folders(photos=(photos,)), settings())
    pairs = training_pairs(sources, settings(), GEOMETRY, seed=3)
    for index in range(12):
        pair, again = pairs[(1, index)], pairs[(1, index)]
        assert all(torch.equal(pair[key], again[key]) for key in pair)
        assert {key: tuple(value.shape) for key, value in pair.items()} == {
            "template": (2, 3, 32, 32),
            "search": (2, 3, 64, 64),
            "box": (4,),
            "present": (2,),
        }
        assert pair["present"].all()
        assert (pair["template"][0] != pair["template"][1]).any()
    assert not torch.equal(pairs[(1, 0)]["search"], pairs[(2, 0)]["search"])


def test_the_ratio_mixes_it_with_sequences(tmp_path: Path) -> None:
    write_sequence(tmp_path, "one", 24)
    sources = open_training(Folders((tmp_path,)), settings(ratio=3.0))
    assert [(source.kind, source.ratio) for source in sources] == [("video", 1.0), ("simulation", 3.0)]
    pairs = training_pairs(sources, settings(), GEOMETRY, seed=0)
    np.testing.assert_allclose(pairs.ratios, [0.25, 0.75])
    assert [source.kind for source in open_training(Folders((tmp_path,)), settings(ratio=0.0))] == ["video"]


@pytest.mark.parametrize(
    ("folders", "ratio", "words"),
    [
        ("", 2.0, "100% of the pairs will be simulated from drawn pictures"),
        ("sequences", 2.0, "67% of the pairs"),
        ("sequences cutouts", 1.0, "50% of the pairs will be simulated on drawn backgrounds"),
        ("sequences photos", 2.0, None),
        ("sequences", 0.0, None),
    ],
)
def test_drawn_pairs_are_warned_of(
    folders: str, ratio: float, words: str | None, tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_sequence(tmp_path / "data", "one", 24)
    there = {"sequences": (tmp_path / "data",), "photos": (photos,), "cutouts": (photos,)}
    given = Folders(**{part: there[part] for part in folders.split()})
    warn_of_drawn(open_training(given, settings(ratio=ratio)))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (words is not None)
    if words:
        assert words in said[0]
        assert "--photos and --cutouts" in said[0]
        assert "data.simulation.ratio=0" in said[0]


def test_a_run_says_what_it_draws(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = small_recipe(data=settings().model_dump(), epochs=1)
    fit(recipe, Folders(), tmp_path / "run", net=small_net(), device="cpu")
    assert len([record for record in caplog.records if "no --photos" in record.getMessage()]) == 1


def test_it_is_trained_on_never_held_out(tmp_path: Path) -> None:
    for name in "ab":
        write_sequence(tmp_path, name, 24)
    train, held = hold_out(open_training(Folders((tmp_path,)), settings()), 2)
    assert [source.kind for source in train] == ["video", "simulation"]
    assert [source.kind for source in held] == ["video"]


def test_dropouts_and_dynamic_templates() -> None:
    sources = open_training(Folders(), settings(dropouts=1.0))
    assert lacks_one(sources[0])
    assert not lacks_one(open_training(Folders(), settings())[0])
    dynamic = DataSettings.model_validate(
        {
            "simulation": {"ratio": 1, "dropouts": 1, "scenes": SCENES},
            "sampling": {"dynamic": True, "dynamic_initial": 0.5},
        }
    )
    pairs = training_pairs(sources, dynamic, GEOMETRY, seed=0)
    drawn = [pairs[(0, index)] for index in range(10)]
    assert {tuple(pair["present"].tolist()) for pair in drawn} == {(True, False), (False, True)}
    same = [torch.equal(pair["dynamic"], pair["template"]) for pair in drawn]
    assert any(same)
    assert not all(same)


def test_what_a_run_says_of_it(photos: Path) -> None:
    facts = describe(open_training(Folders(photos=(photos,)), settings()))
    assert facts["simulated_from"][0]["photos"] == 1
    assert describe(open_training(Folders(photos=(photos,)), settings())) == facts
    cv2.imwrite(str(photos / "a.png"), np.full((150, 200, 3), 90, np.uint8))
    assert describe(open_training(Folders(photos=(photos,)), settings()))["fingerprint"] != facts["fingerprint"]
    assert describe([])["simulated_from"] == []


@pytest.mark.parametrize(
    ("folders", "data", "words"),
    [
        (Folders(photos=(Path("p"),)), {}, "simulation, which is off"),
        (Folders(cutouts=(Path("p"),)), {}, "simulation, which is off"),
        (Folders(photos=(Path("nowhere"),)), {"simulation": {"ratio": 1}}, "no such folder"),
        (Folders(), {"modality": "event", "simulation": {"ratio": 1}}, "thermal frames, data.modality is event"),
    ],
)
def test_what_cannot_be_is_refused(folders: Folders, data: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_training(folders, DataSettings.model_validate(data))
    assert "\n" not in str(caught.value)


def test_frames_cannot_be_looked_up(tmp_path: Path) -> None:
    write_sequence(tmp_path, "one", 24)
    (simulated,) = open_training(Folders(), settings())
    sampling = DataSettings().sampling.model_copy(update={"centred": True})
    with pytest.raises(InputError, match=r"data\.simulation\.ratio=0"):
        PairDataset([Source("a", open_lasher(tmp_path)), simulated], geometry=GEOMETRY, sampling=sampling)


def test_a_run_of_simulation_alone_trains_and_resumes(photos: Path, tmp_path: Path) -> None:
    data = {"simulation": {"ratio": 1.0, "max_gap": 20, "scenes": SCENES}}
    recipe = small_recipe(data=data, epochs=1, pairs_per_epoch=8)
    folders = Folders(photos=(photos,))
    weights = fit(recipe, folders, tmp_path / "run", net=small_net(), device="cpu")
    assert weights.is_file()
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["data"]["simulated_from"][0]["photos"] == 1
    fit(recipe, folders, tmp_path / "run", net=small_net(), device="cpu", resume=True)
    with pytest.raises(InputError, match="the training data differs"):
        fit(recipe, replace(folders, photos=()), tmp_path / "run", net=small_net(), device="cpu", resume=True)
    other = small_recipe(data={"simulation": {**data["simulation"], "max_gap": 9}}, epochs=1, pairs_per_epoch=8)
    with pytest.raises(InputError, match=r"data\.simulation\.max_gap was 20"):
        fit(other, folders, tmp_path / "run", net=small_net(), device="cpu", resume=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--set data.simulation.ratio=1"),
        (["--photos", "nowhere", "--set", "data.simulation.ratio=1"], "no such folder"),
        (["--set", "data.simulation.scenes.nite=1"], "nite"),
        (["--cutouts", ".", "--stills", "."], "simulation, which is off"),
        (["--set", "data.simulation.ratio=.inf"], "data.simulation.ratio: Input should be a finite number"),
        (["--set", "data.simulation.ratio=1e9"], "data.simulation.ratio: Input should be less than or equal to 1000"),
        (["--set", "data.simulation.max_gap=100000000"], "data.simulation.max_gap: Input should be less than"),
        (["--set", "data.simulation.scenes.smallest=.inf"], "smallest: Input should be a finite number"),
        (["--set", "data.simulation.scenes.smallest=300"], "frame's shorter side, 256 pixels"),
        (["--stills", ".", "--set", "data.stills_ratio=.inf"], "data.stills_ratio: Input should be a finite number"),
    ],
)
def test_the_command_line_refuses_in_one_line(tmp_path: Path, options: list[str], words: str) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    options = [str(tmp_path) if option == "." else option for option in options]
    command = ["train", "ckd-tiny-quick", "--out", str(tmp_path / "run"), "--device", "cpu", *options]
    done = CliRunner().invoke(app, command)
    assert not (tmp_path / "run").exists()
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
