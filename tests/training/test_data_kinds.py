"""Training data that are not thermal: layouts, own folders, refused mixtures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.depth import colour_depth
from duotrack.errors import InputError
from duotrack.models.zoo import Geometry
from duotrack.tracking.preprocess import to_tensor
from duotrack.training.augmentation import Augmentation
from duotrack.training.data import DataSettings, Folders, describe, open_folders, training_pairs
from duotrack.training.synthesis import Synthesis
from kinds import depth_map, save, write_depth, write_event
from sequences import write_sequence

FRAMES = 24


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """One folder of sequences a layout."""
    top = tmp_path_factory.mktemp("data")
    write_depth(top / "depthtrack", "toy07_indoor", FRAMES, absent=(3,))
    write_depth(top / "rgbd1k-train" / "Adapter", "adapter1", FRAMES, boxes="groundtruth_rect.txt")
    write_event(top / "visevent", "00142_tank_outdoor2", FRAMES, absent=(3,))
    own = write_sequence(top / "own", "mine", FRAMES)
    shutil.rmtree(own / "infrared")
    shutil.copytree(top / "depthtrack" / "toy07_indoor" / "depth", own / "depth")
    return {path.name: path for path in top.iterdir()}


CASES = [
    (DataSettings(layout="depthtrack"), "depthtrack", "depth"),
    (DataSettings(layout="rgbd1k-train"), "rgbd1k-train", "depth"),
    (DataSettings(layout="visevent"), "visevent", "event"),
    (DataSettings(layout="visevent", modality="event"), "visevent", "event"),
    (DataSettings(modality="depth"), "own", "depth"),
]


@pytest.mark.parametrize(("settings", "folder", "kind"), CASES)
def test_pairs_of_both_modalities(roots, settings, folder, kind):
    assert settings.kind == kind
    sources = open_folders(Folders((roots[folder],)), settings, None)
    (sequence,) = sources[0].sequences
    assert (sequence.kind, sequence.read(5).available) == (kind, ("rgb", "aux"))
    assert describe(sources)["both_modalities"] == 1
    pairs = training_pairs(sources, settings, Geometry(template_size=32, search_size=64), seed=0)
    item = pairs[0, 0]
    assert item["present"].tolist() == [True, True]
    assert not torch.equal(item["search"][0], item["search"][1])


@pytest.mark.parametrize("colours", ["bgr", "rgb"])
def test_training_sees_what_the_tracker_sees(roots, colours):
    """Every colour of the auxiliary crops is one of the rendered map, normalised as in tracking."""
    wall = np.full((72, 96), 3000, np.uint16)
    wall[:, :10] = 1000
    root = roots["depthtrack"].parent / f"wall-{colours}"
    write_depth(root, "a", FRAMES, depths=dict.fromkeys(range(FRAMES), wall))
    plain = Augmentation(grey=0, flip=0, brightness=0, crop_flip=0)
    settings = DataSettings(layout="depthtrack", depth_colours=colours, augmentation=plain)
    pairs = training_pairs(
        open_folders(Folders((root,)), settings, None), settings, Geometry(template_size=32, search_size=64), seed=0
    )
    middle = pairs[0, 0]["template"][1][:, 12:20, 12:20]
    far = colour_depth(wall, colours=colours)[:1, 50:51]
    assert torch.allclose(middle, to_tensor(far, torch.device("cpu"))[0].expand_as(middle), atol=1e-5)


def test_data_of_another_order_are_other_data(roots):
    marks = {
        describe(
            open_folders(Folders((roots["depthtrack"],)), DataSettings(layout="depthtrack", depth_colours=c), None)
        )["fingerprint"]
        for c in ("bgr", "rgb")
    }
    assert len(marks) == 2


def test_mixtures_are_refused(roots, tmp_path):
    with pytest.raises(InputError, match=r"data\.modality is event, but the layout depthtrack is RGB and depth"):
        open_folders(Folders((roots["depthtrack"],)), DataSettings(layout="depthtrack", modality="event"), None)
    (tmp_path / "stills" / "infrared").mkdir(parents=True)
    save(tmp_path / "stills" / "infrared" / "a.png", (depth_map(0) >> 8).astype(np.uint8))
    with pytest.raises(InputError, match=r"stills in infrared/ folders are thermal, data\.modality is depth"):
        open_folders(Folders((roots["depthtrack"],), (tmp_path / "stills",)), DataSettings(layout="depthtrack"), None)


def test_thermal_partners_are_not_made_up_for_depth(roots):
    settings = DataSettings(layout="depthtrack", synthesis=Synthesis(probability=0.5))
    with pytest.raises(InputError, match=r"--set data\.synthesis\.probability=0"):
        open_folders(Folders((roots["depthtrack"],)), settings, None)


def test_depth_of_8_bits_stops_training_with_its_file(roots, tmp_path):
    eight = (depth_map(0) >> 8).astype(np.uint8)
    write_depth(tmp_path, "a", FRAMES, depths=dict.fromkeys(range(FRAMES), eight))
    settings = DataSettings(layout="depthtrack")
    pairs = training_pairs(
        open_folders(Folders((tmp_path,)), settings, None), settings, Geometry(template_size=32, search_size=64), seed=0
    )
    with pytest.raises(InputError, match=r"\.png: pixels have 8 bits, depth comes as 16-bit integers in millimetres"):
        pairs[0, 0]


def test_the_recipe_says_it():
    done = CliRunner().invoke(app, ["train", "ckd-tiny", "--set", "data.modality=depth", "--dry-run"])
    assert done.exit_code == 0, done.stderr
    assert "modality: depth" in done.stdout
    assert "depth_colours: bgr" in done.stdout
    wrong = CliRunner().invoke(app, ["train", "ckd-tiny", "--set", "data.modality=sonar", "--dry-run"])
    assert wrong.exit_code == 2
    assert "data.modality" in wrong.stderr
