"""Simulated scenes: the same from the same seed, exact boxes, visibility, warmth that is not read off the colours."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duotrack.datasets.simulation.actors import Draft
from duotrack.datasets.simulation.assets import KINDS, Background, Pool
from duotrack.datasets.simulation.cameras import Sensors, feel, see, smeared
from duotrack.datasets.simulation.draw import draw_scene
from duotrack.datasets.simulation.motion import STEP, Path, Ways, wander
from duotrack.datasets.simulation.pairs import SEARCH_SHOWN, TEMPLATE_SHOWN, draw_shots
from duotrack.datasets.simulation.render import thermal_frame, truth, visible_frame
from duotrack.datasets.simulation.scene import CAMERA, Actor, Scene, clip_box
from duotrack.datasets.simulation.settings import Scenes, Simulation
from duotrack.datasets.simulation.silhouettes import drawn_sprite
from duotrack.datasets.simulation.sprites import Pose, make_pose
from duotrack.datasets.simulation.thermal import Climate, background_heat, object_heat

SCENES = Scenes(width=160, height=128)
PLAIN = Sensors(gain=np.ones(3), noise=0, heat_blur=0, heat_noise=0)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def rectangle(width: int, height: int, *, warmth: int = 200) -> Actor:
    """A white rectangle as a target."""
    pose = make_pose(np.full((height, width, 3), 255, np.uint8), np.full((height, width), 255, np.uint8))
    assert pose is not None
    heat = np.dstack([np.full((height, width), warmth, np.uint8), np.full((height, width), 255, np.uint8)])
    return Actor((pose,), (heat,), "picture", CAMERA, float(np.sqrt(width * height)), False)


def still(actors: list[Actor], places: list[tuple[float, float]], *, contrast: float = 1.0) -> Scene:
    """A scene in which nothing moves: actors at places before a dark background of warmth 60."""
    values = [0.0, 0, 0, 0, 0, 0, 0, contrast]
    for x, y in places:
        values += [x, y, 0, 0, 0]
    actors = [replace(actor, channel=CAMERA + 5 * i) for i, actor in enumerate(actors)]
    return Scene(
        100,
        80,
        10,
        np.zeros((80, 100, 3), np.uint8),
        np.full((40, 50), 60, np.uint8),
        np.array([[1.0, 0, -50], [0, 1, -40]]),
        Path(np.tile(values, (8, 1))),
        tuple(actors),
        PLAIN,
        np.zeros(3),
    )


@pytest.mark.parametrize(
    ("size", "place", "box"),
    [
        ((20, 10), (50, 40), (40, 35, 20, 10)),
        ((5, 5), (12.5, 30.5), (10, 28, 5, 5)),
        ((20, 10), (0, 40), (0, 35, 10, 10)),
        ((20, 10), (95, 78), (85, 73, 15, 7)),
    ],
)
def test_the_box_is_where_the_pixels_are(size, place, box) -> None:
    scene = still([rectangle(*size)], [place])
    found = truth(scene, 3)
    np.testing.assert_allclose(found.box, box, atol=1e-9)
    assert found.inside == pytest.approx(box[2] * box[3] / (size[0] * size[1]), abs=0.01)
    for image in (visible_frame(scene, 3, rng()), thermal_frame(scene, 3, rng())):
        bright = np.asarray(image[..., 0] > 127, np.uint8)
        assert cv2.boundingRect(bright) == box


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_of_turned_scaled_leaning_shapes_fit_the_rendered_alpha(drawn: Pool, kind: str) -> None:
    settings = Scenes(width=320, height=256, smallest=40, regions=0, distractors=0, occlusion=0, leaves=0, sky=0)
    checked = 0
    for seed in range(10):
        scene = draw_scene(rng(seed), drawn, settings, 60)
        sprite = drawn.shapes[kind][seed]
        white = tuple(replace(pose, colour=np.repeat(pose.colour[..., 3:], 4, axis=2)) for pose in sprite.poses)
        target = replace(scene.actors[0], poses=white, mirrored=bool(seed % 2))
        scene = replace(scene, actors=(target,), background=np.zeros((300, 400, 3), np.uint8), sensors=PLAIN)
        time = 5.0 * seed
        found = truth(scene, time)
        if not found.present or found.inside < 0.99:
            continue
        shape = np.asarray(visible_frame(replace(scene, path=_unlit(scene)), time, rng())[..., 1] > 127, np.uint8)
        x, y, w, h = cv2.boundingRect(shape)
        inner = np.array([x, y, x + w, y + h])
        outer = np.concatenate([found.box[:2], found.box[:2] + found.box[2:]])
        # thin tips fade away between pixels, so the rendered shape may be somewhat smaller, never larger
        slack = 1.6 + 0.03 * max(w, h)
        assert (np.abs(outer - inner) < slack).all(), (outer, inner)
        checked += 1
    assert checked >= 4


def _unlit(scene: Scene) -> Path:
    knots = scene.path.knots.copy()
    knots[:, 6] = 0
    return Path(knots)


def test_out_of_the_picture_or_wholly_hidden_is_absent() -> None:
    target, cover = rectangle(20, 10), replace(rectangle(30, 30), front=True)
    assert truth(still([target], [(50, 40)]), 0).present
    away = truth(still([target], [(-15, 40)]), 0)
    assert (away.present, away.shown, away.box.tolist()) == (False, 0.0, [0.0] * 4)
    hidden = truth(still([target, cover], [(50, 40), (50, 40)]), 0)
    assert (hidden.present, hidden.box.tolist()) == (False, [0.0] * 4)
    assert hidden.inside == pytest.approx(1, abs=0.01)
    half = truth(still([target, cover], [(50, 40), (65, 40)]), 0)
    assert half.box.tolist() == [40, 35, 20, 10]  # the full extent, before occlusion
    assert half.shown == pytest.approx(0.5, abs=0.02)
    behind = truth(still([target, replace(cover, front=False)], [(50, 40), (50, 40)]), 0)
    assert behind.shown == pytest.approx(1, abs=0.01)


def test_what_keeps_its_place_in_the_picture_stays_sharp_while_the_camera_pans() -> None:
    scene = still([rectangle(20, 10)], [(50, 40)])
    knots = scene.path.knots.copy()
    knots[:, 0] = np.arange(len(knots)) * 8 * 6.0  # the camera pans by six pixels a frame, the target goes along
    stripes = np.zeros((80, 100, 3), np.uint8)
    stripes[:, ::6] = 255
    scene = replace(scene, path=Path(knots), background=stripes, sensors=replace(PLAIN, exposure=1.0))
    image = visible_frame(scene, 20, rng()).astype(int)
    assert image[38:42, 42:58].min() == 255
    assert np.ptp(image[5:20, 20:80, 0]) < 80  # sharp it would be 255
    follows = knots.copy()
    follows[:, CAMERA] += np.arange(len(knots)) * 8 * 6.0
    moving = replace(scene, path=Path(follows))
    row = visible_frame(moving, 1, rng())[int(truth(moving, 1).box[1]) + 5, :, 0]
    assert ((row > 130) & (row < 250)).any()


@pytest.mark.parametrize(("contrast", "difference"), [(1.0, 140), (0.5, 70), (0.0, 0)])
def test_crossover_is_as_warm_as_what_is_behind(contrast: float, difference: float) -> None:
    scene = still([rectangle(20, 10, warmth=200)], [(50, 40)], contrast=contrast)
    assert scene.contrast(2) == contrast
    image = thermal_frame(scene, 2, rng()).astype(float)
    assert image[40, 50, 0] - image[10, 10, 0] == pytest.approx(difference, abs=2)
    assert visible_frame(scene, 2, rng())[40, 50].tolist() == [255, 255, 255]


def test_warmth_is_decided_for_the_object_not_read_off_its_colours(drawn: Pool) -> None:
    pose = drawn.shapes["vehicle"][0].poses[0]
    alpha = pose.colour[..., 3:]
    negative = np.concatenate([alpha - np.minimum(pose.colour[..., :3], alpha), alpha], axis=2)
    climate = Climate(100, 20)
    solid = pose.colour[..., 3] == 255
    means = {}
    for excess in (-60.0, 0.0, 60.0):
        for name, colour in (("positive", pose.colour), ("negative", np.ascontiguousarray(negative))):
            heats = [object_heat(rng(seed), (replace(pose, colour=colour),), climate, excess)[0] for seed in range(12)]
            means[excess, name] = float(np.mean([heat[..., 0][solid].mean() for heat in heats]))
    for name in ("positive", "negative"):
        assert means[-60.0, name] < 85 < 90 < means[0.0, name] < 110 < 115 < means[60.0, name]
        assert abs(means[60.0, name] - means[60.0, "positive"]) < 15


def test_regions_of_a_background_have_temperatures_of_their_own(drawn: Pool) -> None:
    agreement = []
    for seed in range(60):
        background = drawn.drawn[seed % len(drawn.drawn)]
        heat = background_heat(rng(seed), background, Climate(100, 25)).astype(float)
        agreement.append(np.corrcoef(heat.ravel(), background.grey.astype(float).ravel())[0, 1])
    assert abs(np.mean(agreement)) < 0.2  # as often against the picture's light as with it
    assert np.std(agreement) > 0.2


def test_a_true_thermal_picture_is_used_as_it_is(drawn: Pool) -> None:
    infrared = rng(1).integers(0, 256, (192, 256)).astype(np.uint8)
    background: Background = replace(drawn.drawn[0], infrared=infrared)
    pool = replace(drawn, photos=(background,))
    scene = draw_scene(rng(2), pool, Scenes(width=160, height=128, procedural=0, sky=0), 5)
    assert scene.heat is infrared
    pose: Pose = replace(drawn.shapes["person"][0].poses[0], infrared=drawn.shapes["person"][0].poses[0].warm)
    heat = object_heat(rng(3), (pose,), Climate(100, 20), 50.0)[0]
    solid = pose.colour[..., 3] == 255
    assert pose.infrared is not None
    assert (heat[..., 0][solid] == pose.infrared[solid]).all()


def test_a_framed_object_fills_its_box_and_is_among_framed_ones_of_its_class(drawn: Pool) -> None:
    settings = Scenes(width=160, height=128, framed=1, regions=0)
    for seed in range(8):
        draft = Draft(rng(seed), drawn, settings, Climate(100, 20), Ways(), False)
        framed = draft.sprite("person")
        assert framed.inside is not None
        for pose, bare in zip(framed.poses, framed.inside.poses, strict=True):
            alpha, within = pose.colour[..., 3], bare.colour[..., 3]
            middle = alpha[alpha.shape[0] // 2], alpha[:, alpha.shape[1] // 2]
            assert min(each.min() for each in middle) > 127  # from edge to edge, where a bare outline is full of holes
            assert (alpha > 127).mean() > (within > 127).mean()
            assert pose.warm is not None
            assert (pose.colour[..., :3] <= alpha[..., None]).all()  # still premultiplied
        other = draft.like(framed)
        assert other.kind == "person"
        assert other.inside is not None


def test_an_object_whose_true_warmth_is_held_or_that_is_thin_is_not_framed(drawn: Pool) -> None:
    sprite = drawn.shapes["person"][0]
    true = replace(sprite, poses=tuple(replace(pose, infrared=pose.warm) for pose in sprite.poses))
    draft = Draft(rng(0), drawn, SCENES, Climate(100, 20), Ways(), False)
    assert draft.framed(true) is true
    thin = make_pose(np.full((8, 1000, 3), 99, np.uint8), np.full((8, 1000), 255, np.uint8))
    assert thin is not None
    bar = replace(sprite, poses=(thin,))
    assert draft.framed(bar) is bar


def test_pairs_are_the_same_from_the_same_seed_and_as_asked(drawn: Pool) -> None:
    settings = Simulation(scenes=SCENES, max_gap=20)
    seen, gaps = 0, []
    for seed in range(40):
        shots, again = (draw_shots(rng(seed), drawn, settings, within=5) for _ in range(2))
        if isinstance(shots, str):
            assert shots == again
            continue
        seen += 1
        gaps.append(shots["search"].pair.index)
        assert 0 <= gaps[-1] - shots["dynamic"].pair.index <= 5
        for name, shot in shots.items():
            other = again[name]
            assert shot.pair.rgb.shape == shot.pair.aux.shape == (128, 160, 3)
            assert (shot.pair.rgb == other.pair.rgb).all()
            assert (shot.pair.aux == other.pair.aux).all()
            assert (shot.box == other.box).all()
            assert shot.box[:2].min() >= 0
            assert (shot.box[:2] + shot.box[2:] <= (160, 128)).all()
            assert (shot.pair.aux[..., 0] == shot.pair.aux[..., 2]).all()
    assert seen > 30
    assert 0 < min(gaps) < 8 < max(gaps) <= 20


def test_the_target_is_in_view_in_both_frames(drawn: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def look(scene, time):
        looked.append(truth(scene, time))
        return looked[-1]

    monkeypatch.setattr("duotrack.datasets.simulation.pairs.truth", look)
    settings = Simulation(scenes=SCENES.model_copy(update={"occlusion": 1.0, "leaves": 1.0}), max_gap=60)
    for seed in range(15):
        if not isinstance(draw_shots(rng(seed), drawn, settings), str):
            template, search = looked[-2:]
            assert template.shown >= TEMPLATE_SHOWN
            assert search.shown >= SEARCH_SHOWN


def test_dropouts_take_one_modality_of_both_frames(drawn: Pool) -> None:
    lost = set()
    for seed in range(12):
        shots = draw_shots(rng(seed), drawn, Simulation(scenes=SCENES, dropouts=1))
        if not isinstance(shots, str):
            there = {shot.pair.available for shot in shots.values()}
            assert len(there) == 1
            lost |= there
    assert lost == {("rgb",), ("aux",)}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"night": 1}, lambda scene: scene.night),
        ({"crossover": 1, "night": 0}, lambda scene: scene.path.at(0)[7] < 1),
        ({"crossover": 0}, lambda scene: scene.contrast(0) == 1),
        ({"camera": 0}, lambda scene: np.allclose(scene.camera(0), scene.camera(30))),
        ({"distractors": 0}, lambda scene: not any(actor.frame == "target" for actor in scene.actors)),
        ({"distractors": 1}, lambda scene: any(actor.frame == "target" for actor in scene.actors)),
        ({"occlusion": 0, "distractors": 0}, lambda scene: not any(actor.front for actor in scene.actors)),
        ({"misalignment": 0}, lambda scene: not scene.drift.any()),
        ({"blur": 0}, lambda scene: scene.sensors.exposure == scene.sensors.blur == scene.sensors.quality == 0),
        ({"thermal_damage": 0}, lambda scene: scene.sensors.stripes == 0 and scene.sensors.heat_noise <= 3),
        ({"smallest": 30, "largest": 0.25}, lambda scene: 30 <= scene.actors[0].size <= 32),
        ({"light": 0, "night": 0}, lambda scene: scene.sensors.glare is None and scene.sensors.fog == 0),
    ],
)
def test_settings_do_what_they_say(drawn: Pool, changes, check) -> None:
    for seed in range(8):
        assert check(draw_scene(rng(seed), drawn, SCENES.model_copy(update={"sky": 0, **changes}), 40))


def test_cameras_see_light_and_warmth() -> None:
    grey = np.full((64, 64, 3), 100, np.uint8)
    assert see(grey.copy(), replace(PLAIN, gain=np.full(3, 0.5)), 0.0, rng()).max() == 50
    assert see(grey.copy(), PLAIN, float(np.log(2)), rng()).min() == 200
    assert see(grey.copy(), replace(PLAIN, noise=8), 0.0, rng()).std() == pytest.approx(8, abs=1)
    assert see(grey.copy(), replace(PLAIN, glare=(1.0, 0.5, 0.5, 0.5)), 0.0, rng())[32, 32].min() == 255
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 255
    blurred = smeared(edge, np.array([9.0, 0.0]))[32, :, 0]
    assert ((blurred > 10) & (blurred < 245)).sum() >= 6
    assert (smeared(edge, np.array([0.0, 9.0])) == edge).all()
    assert smeared(edge, np.array([1.0, 0.0])) is edge
    warm = np.full((64, 64), 100, np.uint8)
    assert feel(warm, replace(PLAIN, heat_gain=0.5, heat_offset=10), rng()).max() == 60
    assert feel(warm, replace(PLAIN, inverted=True), rng()).max() == 155
    dim = feel(warm, replace(PLAIN, vignette=-40), rng())[..., 0]
    assert int(dim[32, 32]) - int(dim[0, 0]) == pytest.approx(40, abs=2)
    lines = feel(warm, replace(PLAIN, stripes=5), rng())[..., 0]
    assert (lines[0] == lines[-1]).all()
    assert lines.std() > 2


def test_poses_of_a_drawn_object_share_a_frame() -> None:
    sprite = drawn_sprite(rng(4), "person")
    assert len(sprite.poses) > 2
    assert len({pose.colour.shape for pose in sprite.poses}) == 1
    assert any((sprite.poses[0].colour != pose.colour).any() for pose in sprite.poses[1:])


@given(st.integers(0, 2**32), st.integers(1, 300))
def test_paths_are_smooth_and_kept_in_by_their_walls(seed: int, length: int) -> None:
    low, high = np.array([0.0, -1.0]), np.array([100.0, 1.0])
    path = wander(rng(seed), length, np.array([50.0, 0.0]), np.array([1.0, 0.0]), low, high)
    values = np.array([path.at(time) for time in np.arange(0, length, 0.5)])
    assert (values[:, 1] == 0).all()
    assert values[:, 0].min() > -60
    assert values[:, 0].max() < 160
    if len(values) > 2:
        assert np.abs(np.diff(values[:, 0], 2)).max() < 3  # no jumps of the velocity
    assert np.allclose(path.at(0), [50, 0], atol=4 * STEP)


@given(arrays(np.float64, 4, elements=st.floats(-300, 300)))
def test_clipped_boxes_lie_in_the_picture(box: np.ndarray) -> None:
    box[2:] = np.abs(box[2:])
    clipped = clip_box(box, 100, 80)
    assert (clipped[:2] >= 0).all()
    assert (clipped[:2] + clipped[2:] <= np.array([100, 80]) + 1e-9).all()
    assert clipped[2] * clipped[3] <= box[2] * box[3] + 1e-6
    np.testing.assert_allclose(clip_box(clipped, 100, 80), clipped, atol=1e-9)
