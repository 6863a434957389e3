"""Renewing the second template: exact frames for each policy, the tracker's part in it, batches, true networks."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

import duotrack
from duotrack.errors import InputError
from duotrack.models.head import CenterHead
from duotrack.models.pixel_fusion import PixelFusionAdapter
from duotrack.models.tpf import TPF, RelevanceGate
from duotrack.models.vit import VisionTransformer
from duotrack.models.zoo import MODELS, Geometry
from duotrack.runtime.deploy import deploy
from duotrack.tracking.batch import MultiTracker, update_together
from duotrack.tracking.crop import Square, crop_square, square_around
from duotrack.tracking.preprocess import to_tensor
from duotrack.tracking.template import Renewal, TemplateRule, cut_again, renew, rule_for, template_rule, usable
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY, ScriptedNet

BOX = (60.0, 40.0, 20.0, 20.0)
HIGH, LOW = 0.9, 0.5


def rule(**settings: object) -> TemplateRule:
    return TemplateRule(**{"theta": 0.65, **settings})  # type: ignore[arg-type]


def follow(asked: TemplateRule, confidences: list[float | None]) -> list[int]:
    """Whose template the second one is after each frame, 0 being the first frame."""
    past, seen = Renewal(), []
    for now, confidence in enumerate(confidences, start=1):
        past = renew(asked, past, confidence, lambda now=now: now)
        seen.append(past.template or 0)
    return seen


@pytest.mark.parametrize(
    ("asked", "confidences", "expected"),
    [
        (rule(), [LOW, HIGH, LOW, LOW, HIGH, 0.65, 0.6499], [0, 2, 2, 2, 5, 6, 6]),
        (rule(), [LOW] * 5, [0] * 5),
        (rule(), [HIGH, None, None, HIGH], [1, 1, 1, 4]),
        (rule(), [HIGH, math.nan, HIGH], [1, 1, 3]),
        (rule(window=3), [HIGH, LOW, LOW, LOW, LOW, HIGH], [1, 1, 1, 1, 0, 6]),
        (rule(window=3), [HIGH, None, None, None, None], [1, 1, 1, 1, 0]),
        (rule(window=math.inf), [HIGH] + [LOW] * 300, [1] * 301),
        (rule(window=100), [HIGH] + [LOW] * 101, [1] * 101 + [0]),
        (rule(min_interval=3), [HIGH] * 8, [0, 0, 3, 3, 3, 6, 6, 6]),
        (rule(min_interval=3), [LOW, LOW, LOW, HIGH, HIGH, HIGH, HIGH], [0, 0, 0, 4, 4, 4, 7]),
        (rule(theta=0.0), [0.0, 0.1], [1, 2]),
        (rule(policy="interval", min_interval=3), [LOW] * 7, [0, 0, 3, 3, 3, 6, 6]),
        (rule(policy="interval", min_interval=3), [LOW, LOW, None, None, LOW, LOW], [0, 0, 0, 0, 5, 5]),
        (rule(policy="interval", min_interval=9, window=2), [LOW] * 12, [0] * 8 + [9] * 4),
        # 0.95 against 0.70: the older one stays the better for 25 ln(0.95 / 0.7) = 7.6 frames of difference
        (rule(policy="window_best"), [0.95] + [0.7] * 9, [1] * 8 + [9, 10]),
        (rule(policy="window_best"), [0.7, 0.95, LOW, 0.93], [1, 2, 2, 4]),
        (rule(policy="window_best"), [0.7, 0.99, LOW, 0.7], [1, 2, 2, 2]),
        (rule(policy="window_best", eta=1.0), [0.95, 0.7], [1, 2]),
        # what was kept in reserve takes over when the best is too old, then the first frame's again
        (rule(policy="window_best", window=2, eta=1e6), [0.95, 0.8, 0.7, LOW, LOW, LOW], [1, 1, 1, 2, 3, 0]),
    ],
)
def test_exact_frames(asked, confidences, expected):
    assert follow(asked, confidences) == expected


def test_window_best_is_what_its_formula_says():
    """Against the definition, over every frame of a random script."""
    rng = np.random.default_rng(0)
    confidences = [float(value) for value in rng.random(200)]
    asked = rule(policy="window_best", theta=0.6, window=20)
    for now, got in enumerate(follow(asked, confidences), start=1):
        there = [j for j in range(max(1, now - 20), now + 1) if confidences[j - 1] >= 0.6]
        merits = [confidences[j - 1] * math.exp(-(now - j) / 25) for j in there]
        assert got == (there[int(np.argmax(merits))] if there else 0)


def test_templates_are_cut_only_where_they_are_wanted():
    def refuse() -> None:
        raise AssertionError

    for confidence in (LOW, None, math.nan):
        assert renew(rule(), Renewal(), confidence, refuse).frame == 1
    assert renew(rule(min_interval=2), Renewal(), HIGH, refuse).template is None


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10, 10, 20, 20), True),
        ((0, 0, 2, 2), True),
        ((10, 10, 1.9, 20), False),
        ((10, 10, 20, 1.9), False),
        ((-15, 10, 20, 20), False),
        ((-5, 10, 20, 20), True),
        ((150, 10, 20, 20), False),  # its centre is on the edge
        ((140, 10, 30, 20), True),
        ((10, 115, 20, 20), False),
    ],
)
def test_a_box_must_be_usable(box, expected):
    assert usable(box, 120, 160) is expected


@dataclass
class TwoTemplates(ScriptedNet):
    """Also keeps the second template that it was handed, and says the highest raw score beside the chosen cell."""

    dynamics: list[object] = field(default_factory=list)
    highest: list[float] = field(default_factory=list)

    def __call__(self, *, dynamic=None, **inputs):
        maps = super().__call__(**inputs)
        self.dynamics.append(dynamic)
        i = len(self.calls) - 1
        if i < len(self.highest):  # in the corner, where the window hides it
            maps.score_map[0, 0, 0, 0] = self.highest[i]
        return maps


def frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3)).astype(np.uint8)


def tracker(net: TwoTemplates, **settings: object) -> Tracker:
    return Tracker(net, geometry=GEOMETRY, templates=rule(**settings))


def second_templates(net: TwoTemplates, t: Tracker, frames: int) -> list[int]:
    """After which frame the second template was that of which frame, by its pixels."""
    t.init(frame(0), frame(100), BOX)
    boxes = [np.array(BOX)] + [t.update(frame(i), frame(100 + i)).box for i in range(1, frames)]
    seen = []
    for given in net.dynamics:
        seen.append(0)
        for i in range(1, frames):
            crop = to_tensor(crop_square(frame(i), boxes[i], GEOMETRY.template_factor, GEOMETRY.template_size).image)
            if given is not None and torch.equal(given[0], crop):
                seen[-1] = i
        assert (given is None) == (seen[-1] == 0)
    return seen


def test_the_tracker_hands_on_the_frames_that_the_rule_takes():
    net = TwoTemplates(scores=[LOW, HIGH, LOW, HIGH, LOW], answers=[(2, 3, 0.0, 0.0)])
    assert second_templates(net, tracker(net), 7) == [0, 0, 2, 2, 4, 4]
    net = TwoTemplates(scores=[HIGH, LOW, LOW, LOW, LOW])
    assert second_templates(net, tracker(net, window=2), 6) == [0, 1, 1, 1, 0]


def test_confidence_is_the_largest_raw_score_not_that_of_the_chosen_cell():
    net = TwoTemplates(scores=[0.6, 0.6], highest=[0.7, 0.64])
    assert second_templates(net, tracker(net), 3) == [0, 1]
    result = tracker(TwoTemplates(scores=[0.6], highest=[0.7]))
    result.init(frame(), frame(), BOX)
    assert result.update(frame(1), frame(1)).score == pytest.approx(0.6)  # the report is of the chosen cell, as ever


def test_without_a_rule_no_second_template_is_handed_on():

    t = Tracker(ScriptedNet(), geometry=GEOMETRY)  # it would refuse an argument that it does not know
    t.init(frame(), frame(), BOX)
    t.update(frame(1), frame(1))
    t.update(frame(2), frame(2))


def test_a_frame_must_have_what_the_first_one_had():
    net = TwoTemplates(scores=[HIGH] * 4)
    t = tracker(net)
    t.init(frame(), frame(1), BOX)
    for images in [(frame(2), None), (None, None), (None, frame(3)), (frame(4), frame(5)), (frame(6), None)]:
        t.update(*images)
    assert [given is None for given in net.dynamics] == [True, True, True, False]
    net = TwoTemplates(scores=[HIGH] * 3)
    one = tracker(net)
    one.init(frame(), None, BOX)
    one.update(frame(1), None)
    one.update(frame(2), frame(3))
    one.update(frame(2), frame(3))
    assert [None if g is None else [z is None for z in g] for g in net.dynamics] == [None, [False, True], [False] * 2]


def test_a_box_at_the_border_gives_a_padded_crop():
    # found boxes move 20 px to the left a frame: the centre stays inside, half of the crop does not
    net = TwoTemplates(answers=[(2, 1, 0.0, 0.0)] * 3, scores=[HIGH] * 5)
    t = tracker(net)
    t.init(frame(), frame(1), (25.0, 40.0, 20.0, 20.0))
    first = t.update(frame(2), frame(3)).box
    t.update(frame(4), frame(5))
    assert first[0] + first[2] / 2 < GEOMETRY.template_factor * 10
    rgb = net.dynamics[1][0]
    assert torch.isfinite(rgb).all()
    black = to_tensor(np.zeros((1, 1, 3), np.uint8))
    assert torch.equal(rgb[:, :, :, :2], black.expand(1, 3, 32, 2))
    # the next one's centre is outside: no template, the one before stays
    t.update(frame(6), frame(7))
    assert net.dynamics[2] is net.dynamics[1]


def test_nan_takes_no_template(caplog):
    net = TwoTemplates(scores=[math.nan, LOW])
    t = tracker(net, policy="interval")
    t.init(frame(), frame(1), BOX)
    for i in range(2):
        t.update(frame(i), frame(i))
    assert net.dynamics == [None, None]


def test_init_starts_over_and_clones_copy_the_rule():
    net = TwoTemplates(scores=[HIGH] * 9)
    t = tracker(net, window=7)
    assert t.clone().templates == t.templates == rule(window=7)
    for _ in range(2):
        t.init(frame(), frame(1), BOX)
        t.update(frame(2), frame(3))
        t.update(frame(4), frame(5))
    assert [given is None for given in net.dynamics] == [True, False, True, False]
    many = MultiTracker(t)
    many.init(frame(), frame(), [BOX, (20, 20, 30, 30)])
    net.dynamics.clear()
    for i in range(2):
        many.update(frame(i), frame(i))
    assert [given is None for given in net.dynamics] == [True, True, False, False]


def test_the_callers_next_frame_may_use_the_same_array():
    net = TwoTemplates(scores=[HIGH] * 3)
    t, rgb, aux = tracker(net), frame(0), frame(1)
    t.init(rgb, aux, BOX)
    box = t.update(rgb, aux).box
    expected = to_tensor(crop_square(rgb, box, 2.0, 32).image)
    rgb[:] = 0
    aux[:] = 0
    t.update(rgb, aux)
    torch.testing.assert_close(net.dynamics[1][0], expected)


# true networks


def small(seed: int = 1) -> TPF:
    torch.manual_seed(seed)
    net = TPF(
        fusion=lambda: PixelFusionAdapter(width=8, d_state=4),
        branch=lambda: VisionTransformer(template_size=32, search_size=64, dim=32, depth=3, heads=2),
        head=lambda inputs: CenterHead(inputs=inputs, channels=16),
        gate=lambda dim: RelevanceGate(dim=dim, bottleneck=8),
    )
    torch.nn.init.normal_(net.fusion.head.weight, std=0.2)
    torch.nn.init.normal_(net.template_slots, std=0.2)
    return net.eval()


def true_tracker(**settings: object) -> Tracker:
    asked = rule(**{"theta": 0.0, **settings})
    return Tracker(deploy(small()), geometry=Geometry(template_size=32, search_size=64), templates=asked)


def test_the_deployed_form_is_the_network():
    net, made = small(), deploy(small())
    rng = torch.Generator().manual_seed(0)
    rgb, aux, other, more = (torch.randn(2, 3, side, side, generator=rng) for side in (64, 64, 32, 32))
    with torch.inference_mode():
        for second in (None, (more, other)):
            for z in ((other, more), (other, None), (None, more)):
                want = net(template=z, search=(rgb, aux), dynamic=second)
                got = made(
                    template=made.remember(z),
                    search=(rgb, aux),
                    dynamic=None if second is None else made.remember(second),
                )
                for name in ("score_map", "size_map", "offset_map", "fused"):
                    torch.testing.assert_close(getattr(got, name), getattr(want, name), atol=1e-5, rtol=1e-4)
        fused = net.fuse(other, more)
        torch.testing.assert_close(made.remember_fused(fused)[0], made.remember((other, more))[0])


VIDEOS = [((96, 128), (40.0, 30.0, 24.0, 16.0), 9), ((72, 100), (20.0, 20.0, 15.0, 30.0), 6)]


def images(video: int, index: int) -> tuple[np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng([video, index])
    rgb, aux = (rng.integers(0, 256, (*VIDEOS[video][0], 3)).astype(np.uint8) for _ in range(2))
    return rgb, None if (video, index) == (1, 3) else aux


@pytest.mark.parametrize("policy", ["latest_reliable", "window_best", "interval"])
@pytest.mark.parametrize("reuse_crop", [False, True], ids=["frame", "reuse"])
@pytest.mark.parametrize("stack", [1, 4])
def test_together_as_one_by_one(policy, reuse_crop, stack):
    prototype = true_tracker(policy=policy, reuse_crop=reuse_crop, min_interval=2)
    alone: list[list] = []
    for video, (_, box, frames) in enumerate(VIDEOS):
        single = prototype.clone()
        single.init(*images(video, 0), box)
        alone.append([single.update(*images(video, i)) for i in range(1, frames)])
    trackers = [prototype.clone() for _ in VIDEOS]
    for video, single in enumerate(trackers):
        single.init(*images(video, 0), VIDEOS[video][1])
    for i in range(1, 9):
        alive = [video for video, (_, _, frames) in enumerate(VIDEOS) if i < frames]
        found = update_together([trackers[v] for v in alive], [images(v, i) for v in alive], stack=stack)
        for video, result in zip(alive, found, strict=True):
            want = alone[video][i - 1]
            if stack == 1:
                assert result.box.tobytes() == want.box.tobytes()
            np.testing.assert_allclose(result.box, want.box, atol=1e-3)
            assert result.score == pytest.approx(want.score, abs=1e-4)


def test_a_template_out_of_the_search_image_is_nearly_the_one_out_of_the_frame():
    """Same scale, same place: a smooth picture resampled twice is the picture resampled once."""
    rows, columns = np.mgrid[0:200, 0:240]
    smooth = np.stack([120 + 100 * np.sin(rows / 17), 90 + 60 * np.cos(columns / 23), rows / 2 + 40], axis=-1)
    image = smooth.astype(np.uint8)
    before, after = (100.0, 80.0, 30.0, 20.0), (104.0, 77.0, 26.0, 24.0)
    search = to_tensor(crop_square(image, before, 4.0, 256).image)
    again = cut_again(search, square_around(before, 4.0), square_around(after, 2.0), 128)
    want = to_tensor(crop_square(image, after, 2.0, 128).image)
    assert (again - want).abs().mean() < 0.02
    outside = cut_again(search, Square(0, 0, 50), Square(40, -20, 40), 16)
    black = to_tensor(np.zeros((1, 1, 3), np.uint8))
    assert torch.equal(outside[:, :, :8], black.expand(1, 3, 8, 16))
    assert not torch.equal(outside[:, :, 9:, :3], black.expand(1, 3, 7, 3))


def test_the_second_template_matters():
    """A network that looks at it answers otherwise when it is renewed."""
    moved, still = true_tracker(), replace(rule(), theta=1.0)
    stays = Tracker(moved.net, geometry=moved.geometry, templates=still)
    for t in (moved, stays):
        t.init(*images(0, 0), VIDEOS[0][1])
    pairs = [(moved.update(*images(0, i)), stays.update(*images(0, i))) for i in range(1, 4)]
    assert pairs[0][0].box.tobytes() == pairs[0][1].box.tobytes()
    assert pairs[1][0].score != pairs[1][1].score


def test_load_tracker_takes_the_models_own_threshold():
    spec = replace(MODELS["tpf-tiny"], template_theta=0.4)
    assert rule_for(spec, None) == TemplateRule(theta=0.4)
    assert rule_for(spec, TemplateRule(policy="interval", theta=0.8)) == TemplateRule(policy="interval", theta=0.8)
    assert rule_for(spec, TemplateRule(policy="none")) is None
    assert rule_for(MODELS["ckd-tiny"], None) is None
    assert rule_for(MODELS["ckd-tiny"], TemplateRule(policy="none")) is None
    with pytest.raises(InputError, match=r"^ckd-tiny takes one template.*leave template settings out$"):
        duotrack.load_tracker("ckd-tiny", device="cpu", templates=TemplateRule())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"policy": "latest"}, "no template policy is called 'latest'"),
        ({"theta": 1.2}, "theta is 1.2"),
        ({"theta": math.nan}, "theta is nan"),
        ({"window": 0}, "window is 0"),
        ({"window": math.nan}, "window is nan"),
        ({"min_interval": 0}, "interval is 0"),
        ({"eta": 0.0}, "eta is 0"),
        ({"polic": "none"}, "'polic'.*policy"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        template_rule(**settings)


def test_nothing_asked_is_no_rule():
    assert template_rule(policy=None, theta=None, window=None) is None
    assert template_rule(window=math.inf) == TemplateRule(window=math.inf)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_zoo_model_tracks_with_two_templates(precision):
    t = duotrack.load_tracker(
        "tpf-tiny", device="cpu", precision=precision, templates=TemplateRule(theta=0.0, reuse_crop=precision == "bf16")
    )
    t.init(*images(0, 0), VIDEOS[0][1])
    for i in range(1, 3):
        result = t.update(*images(0, i))
        assert np.isfinite(result.box).all()
