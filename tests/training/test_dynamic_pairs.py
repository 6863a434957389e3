"""Second templates, frames that experts fused before, fixed crops: what training pairs bring along for TPF."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.stills import open_stills
from duotrack.errors import InputError
from duotrack.fusion.cache import FrameCache, make_cache
from duotrack.models.statistics import denormalise
from duotrack.models.zoo import Geometry
from duotrack.training.augmentation import Augmentation, Jitter, stray
from duotrack.training.pairs import PairDataset, Source
from duotrack.training.sampling import Sampling, draw_dynamic
from sequences import box, scene, write_sequence

GEOMETRY = Geometry(template_size=64, search_size=128)
PLAIN = Augmentation(grey=0, flip=0, brightness=0, crop_flip=0)
STILL = Jitter(centre=0, scale=0, dynamic_centre=0, dynamic_scale=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paired")
    for name in ("a", "b"):
        write_sequence(folder, name, frames=40)
    return folder


def dataset(root: Path, **settings: object) -> PairDataset:
    return PairDataset([Source("test", open_lasher(root))], geometry=GEOMETRY, **settings)  # type: ignore[arg-type]


@given(visible=st.lists(st.booleans(), min_size=3, max_size=60), within=st.integers(1, 30), seed=st.integers(0, 99))
def test_a_dynamic_template_is_visible_and_shortly_before(visible: list[bool], within: int, seed: int) -> None:
    search = len(visible) - 1
    sampling = Sampling(dynamic=True, dynamic_within=within, dynamic_initial=0)
    frame = draw_dynamic(np.array(visible), search, np.random.default_rng(seed), sampling)
    if frame is None:
        assert not any(visible[max(search - within, 0) : search])
    else:
        assert visible[frame]
        assert search - within <= frame < search


def test_a_share_of_samples_has_the_first_template_twice(root: Path) -> None:
    rng = np.random.default_rng(0)
    sampling = Sampling(dynamic=True, dynamic_initial=0.1)
    draws = [draw_dynamic(np.ones(50, bool), 40, rng, sampling) for _ in range(3000)]
    assert draws.count(None) / 3000 == pytest.approx(0.1, abs=0.02)
    assert {draw for draw in draws if draw is not None} == set(range(20, 40))
    data = dataset(root, sampling=Sampling(dynamic=True, dynamic_initial=1))
    assert all(torch.equal(data[0, i]["dynamic"], data[0, i]["template"]) for i in range(4))


def test_the_second_template_shows_the_target_of_its_own_frame(root: Path) -> None:
    data = dataset(root, sampling=Sampling(dynamic=True, dynamic_initial=0), augmentation=PLAIN, jitter=STILL)
    different = 0
    for index in range(8):
        pair = data[0, index]
        assert pair["dynamic"].shape == pair["template"].shape == (2, 3, 64, 64)
        centre = pair["dynamic"][0, 0, 28:36, 28:36] - pair["dynamic"][0, 1, 28:36, 28:36]
        assert float((centre > 1.5).float().mean()) > 0.9
        different += not torch.equal(pair["dynamic"], pair["template"])
    assert different >= 7


def test_asking_for_a_second_template_changes_nothing_else(root: Path) -> None:
    """Up to the draws that come after it: the frames of the pair are the same."""
    plain = dataset(root, augmentation=PLAIN, jitter=STILL)
    more = dataset(root, augmentation=PLAIN, jitter=STILL, sampling=Sampling(dynamic=True))
    assert all(torch.equal(plain[0, i]["search"], more[0, i]["search"]) for i in range(4))
    assert "dynamic" not in plain[0, 0]


def test_its_box_strays_as_predictions_do() -> None:
    rng, truth = np.random.default_rng(0), np.array([10.0, 20, 40, 10])
    made = np.array([stray(truth, rng, Jitter()) for _ in range(2000)])
    shift = (made[:, :2] + made[:, 2:] / 2 - [30, 25]) / [40, 10]
    assert 0.049 < np.abs(shift).max() <= 0.05
    growth = made[:, 2:] / [40, 10]
    assert 0.9 <= growth.min() < 0.902
    assert 1.098 < growth.max() <= 1.1
    assert np.corrcoef(growth.T)[0, 1] == pytest.approx(0, abs=0.1)


def test_brightness_may_be_for_rgb_alone(root: Path) -> None:
    light = Augmentation(grey=0, flip=0, brightness=0.5, crop_flip=0)
    plain = dataset(root, augmentation=PLAIN, jitter=STILL)
    both, one = (
        dataset(root, augmentation=light.model_copy(update={"brightness_aux": aux}), jitter=STILL)
        for aux in (True, False)
    )
    for i in range(3):
        assert not torch.allclose(one[0, i]["search"][0], plain[0, i]["search"][0], atol=0.05)
        assert torch.equal(one[0, i]["search"][1], plain[0, i]["search"][1])
        assert torch.equal(both[0, i]["search"][0], one[0, i]["search"][0])
        assert not torch.allclose(both[0, i]["search"][1], plain[0, i]["search"][1], atol=0.05)


@pytest.fixture
def cache(tmp_path: Path) -> FrameCache:
    """An "expert" whose pictures are the visible ones with exchanged channels."""
    made = make_cache(tmp_path / "cache", "swapped", "1")
    for name in ("a", "b"):
        for frame in range(40):
            made.write("lasher", name, frame, np.ascontiguousarray(scene(frame, "visible")[:, :, ::-1]))
    return made


@pytest.mark.parametrize("augmentation", [PLAIN, Augmentation(grey=0, flip=1, crop_flip=0.5, brightness=0.5)])
def test_cached_frames_are_cropped_and_mirrored_with_the_pair(
    root: Path, cache: FrameCache, augmentation: Augmentation
) -> None:
    sampling = Sampling(dynamic=True, dynamic_initial=0.3)
    data = dataset(root, sampling=sampling, augmentation=augmentation, caches=(cache,), cached_as="lasher")
    for index in range(6):
        pair = data[0, index]
        for view, side in (("template", 64), ("dynamic", 64), ("search", 128)):
            fused = denormalise(pair[f"fused_{view}"])
            assert fused.shape == (1, 3, side, side)
            visible = denormalise(pair[view][:1]).flip(1)
            if augmentation is PLAIN:  # JPEG is all that differs
                assert (fused - visible).abs().mean() < 0.06
            red = visible[0, 2] - visible[0, 0]
            blue = fused[0, 2] - fused[0, 0]
            assert float(torch.corrcoef(torch.stack([red.flatten(), blue.flatten()]))[0, 1]) > 0.7
    assert set(pair) == {
        "template", "search", "dynamic", "box", "present", "fused_template", "fused_search", "fused_dynamic",
    }  # fmt: skip


def test_a_frame_that_is_not_in_the_cache_is_named(root: Path, tmp_path: Path) -> None:
    data = dataset(root, caches=(make_cache(tmp_path / "empty", "slow", "1"),), cached_as="lasher")
    with pytest.raises(InputError, match=r"cache of expert slow has no frame .*lasher.[ab].\d{6}\.png"):
        data[0, 0]


def test_fixed_crops_depend_on_the_search_frame_alone(root: Path) -> None:
    data = dataset(root, sampling=Sampling(centred=True), augmentation=Augmentation(grey=0))
    seen: dict[int, dict[str, torch.Tensor]] = {}
    for index in range(150):
        pair = data[0, index]
        fixed = {key: value for key, value in pair.items() if key.startswith("centred_")}
        assert set(fixed) == {"centred_template", "centred_search", "centred_box", "centred_present"}
        number = int(pair["frame"])
        if number in seen:
            assert all(torch.equal(value, seen[number][key]) for key, value in fixed.items())
        seen[number] = fixed
        x, y, w, h = pair["centred_box"].tolist()
        assert (x + w / 2, y + h / 2) == pytest.approx((0.5, 0.5), abs=0.02)
    assert len(seen) < 80
    assert min(seen) >= 0
    assert max(seen) > 40  # the second sequence counts on from the first


def test_stills_have_no_frames_to_look_up(tmp_path: Path, root: Path, cache: FrameCache) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), scene(0, "visible"))
    stills = Source("stills", open_stills(folder), kind="stills")
    pair = PairDataset([stills], geometry=GEOMETRY, sampling=Sampling(dynamic=True, dynamic_initial=0))[0, 0]
    assert pair["dynamic"].shape == (2, 3, 64, 64)
    assert not torch.equal(pair["dynamic"], pair["template"])
    for settings in ({"sampling": Sampling(centred=True)}, {"caches": (cache,)}):
        with pytest.raises(InputError, match="leave --stills out"):
            PairDataset([stills], geometry=GEOMETRY, **settings)  # type: ignore[arg-type]


def test_the_scene_is_what_these_tests_think() -> None:
    x, y, w, h = box(3)
    assert tuple(scene(3, "visible")[y + h // 2, x + w // 2]) == (250, 30, 30)
