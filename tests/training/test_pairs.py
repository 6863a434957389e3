"""From a dataset folder to batches."""

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.stills import open_stills
from duotrack.errors import InputError
from duotrack.models.statistics import MEAN, STD
from duotrack.models.zoo import Geometry
from duotrack.training.augmentation import Augmentation, Jitter
from duotrack.training.pairs import PairDataset, Source, lacks_one
from duotrack.training.sampling import Sampling
from duotrack.training.synthesis import Synthesis
from sequences import write_sequence

GEOMETRY = Geometry(template_size=64, search_size=128)
PLAIN = Augmentation(grey=0, flip=0, brightness=0, crop_flip=0)


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("paired")
    for name in ("a", "b"):
        write_sequence(root, name)
    return root


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("single")
    write_sequence(root, "v", modalities=("visible",))
    write_sequence(root, "i", modalities=("infrared",))
    return root


def dataset(root: Path, **settings: object) -> PairDataset:
    return PairDataset([Source("test", open_lasher(root))], geometry=GEOMETRY, **settings)  # type: ignore[arg-type]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_shapes_and_types(paired: Path) -> None:
    pair = dataset(paired)[0, 0]
    assert {key: (tuple(value.shape), value.dtype) for key, value in pair.items()} == {
        "template": ((2, 3, 64, 64), torch.float32),
        "search": ((2, 3, 128, 128), torch.float32),
        "box": ((4,), torch.float32),
        "present": ((2,), torch.bool),
    }
    assert pair["present"].all()
    assert not torch.equal(pair["search"][0], pair["search"][1])


@pytest.mark.parametrize(
    "augmentation", [PLAIN, Augmentation(grey=0, flip=1, crop_flip=1, brightness=0), Augmentation()]
)
def test_the_box_lies_on_the_target(paired: Path, augmentation: Augmentation) -> None:
    data = dataset(paired, augmentation=augmentation.model_copy(update={"grey": 0.0}))
    for index in range(12):
        pair = data[0, index]
        x, y, w, h = (128 * pair["box"]).tolist()
        target = pair["search"][0, 0] - pair["search"][0, 1] > 1.5  # red
        rows, columns = torch.nonzero(target, as_tuple=True)
        middle_x, middle_y = min(max(x + w / 2, 0), 128), min(max(y + h / 2, 0), 128)
        assert abs(float(columns.float().median()) - middle_x) < 0.3 * w + 2
        assert abs(float(rows.float().median()) - middle_y) < 0.3 * h + 2
        # and in the middle of the template, whatever was done to it
        centre = pair["template"][0, 0, 28:36, 28:36] - pair["template"][0, 1, 28:36, 28:36]
        assert float((centre > 1.5).float().mean()) > 0.9


def test_modalities_share_the_geometry(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, "a", modalities=("visible",))
    (folder / "infrared").symlink_to(folder / "visible")
    data = dataset(tmp_path)
    for index in range(8):
        pair = data[0, index]
        assert torch.equal(pair["search"][0], pair["search"][1])
        assert torch.equal(pair["template"][0], pair["template"][1])


def test_same_key_same_bytes(paired: Path) -> None:
    settings = {"seed": 5, "augmentation": Augmentation(blur=0.5, noise=0.5, gamma=0.5), "jitter": Jitter(hard=0.5)}
    one, two = dataset(paired, **settings), dataset(paired, **settings)
    two[3, 1]
    assert same(one[2, 7], two[2, 7])
    assert not same(one[2, 7], one[2, 8])
    assert not same(one[2, 7], one[3, 7])
    assert not same(one[2, 7], dataset(paired, **(settings | {"seed": 6}))[2, 7])


def test_missing_modality_takes_the_other(single: Path) -> None:
    data = dataset(single)
    seen = set()
    for index in range(10):
        pair = data[0, index]
        seen.add(tuple(pair["present"].tolist()))
        assert torch.equal(pair["search"][0], pair["search"][1])
        assert torch.equal(pair["template"][0], pair["template"][1])
    assert seen == {(True, False), (False, True)}


def test_synthesis_makes_a_partner(single: Path) -> None:
    data = dataset(single, synthesis=Synthesis(probability=1))
    for index in range(6):
        pair = data[0, index]
        assert pair["present"].all()
        assert not torch.equal(pair["search"][0], pair["search"][1])
    half = dataset(single, synthesis=Synthesis(probability=0.5))
    assert 5 < sum(bool(half[0, i]["present"].all()) for i in range(30)) < 25


def test_dropping_a_modality(paired: Path) -> None:
    data = dataset(paired, augmentation=Augmentation(drop_modality=1))
    kept = [tuple(data[0, i]["present"].tolist()) for i in range(16)]
    assert set(kept) == {(True, False), (False, True)}
    for share, left in ((1.0, (False, True)), (0.0, (True, False))):
        data = dataset(paired, augmentation=Augmentation(drop_modality=1, drop_rgb=share))
        assert {tuple(data[0, i]["present"].tolist()) for i in range(6)} == {left}
    some = dataset(paired, augmentation=Augmentation(drop_modality=0.3))
    assert 4 < sum(not some[0, i]["present"].all() for i in range(40)) < 22
    # what a pair loses on purpose is not made up again
    data = dataset(paired, augmentation=Augmentation(drop_modality=1), synthesis=Synthesis(probability=1))
    assert not any(data[0, i]["present"].all() for i in range(8))


@pytest.mark.parametrize("drop_as", ["zeros", "copy"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_loss_that_the_network_is_not_told(paired: Path, drop_as: str, lost: int) -> None:
    plain = PLAIN.model_copy(update={"drop_rgb": float(lost == 0)})
    dropped = plain.model_copy(update={"drop_modality": 1.0, "drop_as": drop_as})
    black = torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    data = dataset(paired, augmentation=dropped)
    for index in range(4):
        pair = data[0, index]
        assert pair["present"].all()
        search = pair["search"][lost]
        if drop_as == "zeros":
            torch.testing.assert_close(search, black[:, None, None].expand_as(search))
        else:
            assert torch.equal(search, pair["search"][1 - lost])
        assert not torch.equal(pair["template"][0], pair["template"][1])  # the template was taken before the loss


def test_no_loss_leaves_every_draw_as_it_was(paired: Path) -> None:
    one = dataset(paired)
    other = dataset(paired, augmentation=Augmentation(drop_rgb=0.9, drop_as="copy"))
    assert all(same(one[0, i], other[0, i]) for i in range(4))


def test_sources_say_whether_a_modality_may_lack(paired: Path, single: Path) -> None:
    assert not lacks_one(Source("paired", open_lasher(paired)))
    assert lacks_one(Source("single", open_lasher(single)))
    masks = np.ones((24, 2), bool)
    masks[3, 0] = False
    masked = [replace(sequence, mask=masks) for sequence in open_lasher(paired)]
    assert lacks_one(Source("masked", masked))


def test_stills(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(image, (160, 120)))
    data = PairDataset([Source("stills", open_stills(tmp_path), kind="stills")], geometry=GEOMETRY)
    for index in range(10):
        pair = data[0, index]
        assert pair["present"].tolist() == [True, False]
        assert torch.isfinite(pair["box"]).all()
        assert (pair["box"][2:] > 0).all()


def test_mixing_by_ratio(paired: Path, single: Path) -> None:
    sources = [Source("paired", open_lasher(paired), 3), Source("single", open_lasher(single), 1)]
    data = PairDataset(sources, geometry=GEOMETRY)
    share = np.mean([bool(data[0, i]["present"].all()) for i in range(200)])
    assert 0.65 < share < 0.85


def test_a_corrupt_frame_is_said_once_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_sequence(tmp_path, "a", modalities=("visible",))
    data = dataset(tmp_path)
    for i in range(12, 24):
        (folder / "visible" / f"{i:06d}.jpg").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        for index in range(10):
            data[0, index]
    messages = [record.message for record in caplog.records]
    assert messages
    assert len(messages) == len(set(messages))


def test_unusable_data_is_an_error_that_says_why(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, "a", modalities=("visible",))
    data = dataset(tmp_path)
    for path in (folder / "visible").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"50 draws .* a: no modality can be read in both frames \(50 times\)"):
        data[0, 0]


def test_boxes_outside_the_frame(tmp_path: Path) -> None:
    write_sequence(tmp_path, "a", boxes="900,900,10,10\n" * 24)
    with pytest.raises(InputError, match="a crop lies outside the frame"):
        dataset(tmp_path)[0, 0]


def test_frames_of_different_size(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path, "a")
    for path in (folder / "infrared").iterdir():
        assert cv2.imwrite(str(path), np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(InputError, match="modalities are 96x72 and 60x50"):
        dataset(tmp_path)[0, 0]


def test_short_sequences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sequence(tmp_path, "a", 8)
    with pytest.raises(InputError, match="none of 1 sequences has 20 frames, 5 of them"):
        dataset(tmp_path)
    dataset(tmp_path, sampling=Sampling(min_frames=8))
    write_sequence(tmp_path, "b", 20)
    with caplog.at_level(logging.WARNING):
        dataset(tmp_path)
    assert "1 of 2 sequences are too short" in caplog.text


def test_bad_ratios_and_sizes(paired: Path) -> None:
    sequences = open_lasher(paired)
    with pytest.raises(InputError, match="at least one dataset"):
        PairDataset([], geometry=GEOMETRY)
    with pytest.raises(InputError, match="ratio above 0"):
        PairDataset([Source("a", sequences, 0)], geometry=GEOMETRY)


@pytest.mark.parametrize("grey_aux", [True, False])
def test_grey_may_spare_the_auxiliary_images(paired: Path, grey_aux: bool) -> None:
    grey = PLAIN.model_copy(update={"grey": 1.0, "grey_aux": grey_aux})
    std, mean = torch.tensor(STD).view(3, 1, 1), torch.tensor(MEAN).view(3, 1, 1)
    rgb, aux = dataset(paired, augmentation=grey)[0, 0]["search"] * std + mean
    spread = lambda image: float((image.amax(dim=0) - image.amin(dim=0)).max())  # noqa: E731
    assert spread(rgb) < 1e-5
    assert (spread(aux) < 1e-5) == grey_aux


def test_away_shows_no_target_and_says_so(paired: Path) -> None:
    pairs = dataset(paired, jitter=Jitter(away=0.5))
    boxes = torch.stack([pairs[(0, i)]["box"] for i in range(40)])
    absent = (boxes == 0).all(dim=1)
    assert 0 < int(absent.sum()) < 40
    assert (boxes[~absent][:, 2:] > 0).all()
