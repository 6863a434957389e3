"""Drawn masks: exact counts, the structure of every pattern over 200 seeds, and independence of order."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.datasets.dropouts import deal_patterns, deal_ratios, draw_masks
from duotrack.datasets.masked import availability
from duotrack.datasets.missing import digest
from duotrack.datasets.patterns import PATTERNS, RATIOS, Loss, read_losses

SEEDS = range(200)
FRAMES, RATIO = 240, 0.6
COUNT = 144
FILES = {"rgbt234": "RGBT234-Miss", "lasher245": "LasHeR245-Miss", "vtuav176": "VTUAV176-Miss"}
# docs/specs/ipl.md, section 8.1: sequences / frames / missing frames
BY_PATTERN = {
    "rgbt234": [(47, 23037, 13765), (47, 22297, 13268), (47, 22765, 13702), (47, 24068, 13810), (46, 24483, 14672)],
    "lasher245": [(49, 41943, 23877), (49, 47371, 30181), (49, 43796, 27606), (49, 40633, 23498), (49, 46960, 27991)],
    "vtuav176": [
        (36, 122754, 72635),
        (35, 126747, 74950),
        (35, 135765, 76837),
        (35, 126352, 73285),
        (35, 119829, 70803),
    ],
}
BY_RATIO = {
    "rgbt234": [(75, 38723, 11583), (79, 41442, 24834), (80, 36485, 32800)],
    "lasher245": [(80, 70365, 21075), (80, 77177, 46276), (85, 73161, 65802)],
    "vtuav176": [(56, 232760, 69800), (60, 200201, 120097), (60, 198486, 178613)],
}
TOTAL = {"rgbt234": (234, 116650, 69217), "lasher245": (245, 220703, 133153), "vtuav176": (176, 631447, 368510)}
COMPLETE = {"rgbt234": 0.407, "lasher245": 0.397, "vtuav176": 0.416}
NEITHER = {"rgbt234": 0.161, "lasher245": 0.153, "vtuav176": 0.152}


def drawn(pattern, frames=FRAMES, ratio=RATIO, seeds=SEEDS):
    losses = {"car": Loss(frames, pattern, ratio)}
    return [draw_masks(losses, dataset="test", seed=seed)["car"] for seed in seeds]


def about(value, share, draws, sigmas=3.5):
    """Whether a count of draws is what a share of them gives, within so many standard deviations."""
    return abs(value - share * draws) <= sigmas * (draws * share * (1 - share)) ** 0.5


def blocks(rows):
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


@pytest.mark.parametrize("tag", FILES)
def test_counts_of_the_benchmarks_are_exactly_the_published(shared_data, tag):
    losses = read_losses(shared_data / "miss" / FILES[tag] / f"subgroups_data_{tag}.json.gz")
    masks = draw_masks(losses, dataset=tag)

    def counts(**which):
        names = [n for n, loss in losses.items() if all(getattr(loss, key) == value for key, value in which.items())]
        return len(names), sum(len(masks[n]) for n in names), sum(int((~masks[n]).any(axis=1).sum()) for n in names)

    assert [counts(pattern=pattern) for pattern in PATTERNS] == BY_PATTERN[tag]
    assert [counts(ratio=ratio) for ratio in RATIOS] == BY_RATIO[tag]
    assert counts() == TOTAL[tag]
    frames = availability(masks.values())
    assert frames["complete"] == TOTAL[tag][1] - TOTAL[tag][2]
    assert frames["complete"] / TOTAL[tag][1] == pytest.approx(COMPLETE[tag], abs=0.0005)
    assert frames["neither"] / TOTAL[tag][1] == pytest.approx(NEITHER[tag], abs=0.0025)
    single = (frames["rgb_only"] + frames["aux_only"]) / TOTAL[tag][1]
    assert 0.43 <= single <= 0.455


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("frames", "ratio"), [(FRAMES, RATIO), (1, 0.9), (2, 0.9), (3, 0.3), (5, 0.6), (414, 0.9)])
def test_exactly_so_many_frames_lack_something_and_never_the_first(pattern, frames, ratio):
    for mask in drawn(pattern, frames, ratio):
        assert mask.shape == (frames, 2)
        assert int((~mask).any(axis=1).sum()) == int(frames * ratio)
        assert mask[0].all()


def test_random_frames_anywhere_in_three_equal_cases():
    masks = drawn("random")
    cases = Counter((2 * ~mask[:, 0] + ~mask[:, 1])[(~mask).any(axis=1)].tobytes() for mask in masks)
    assert len(cases) == len(SEEDS)  # every seed is a draw of its own
    total = availability(masks)
    draws = COUNT * len(SEEDS)
    assert all(about(total[case], 1 / 3, draws) for case in ("rgb_only", "aux_only", "neither")), total
    hits = np.sum([(~mask).any(axis=1) for mask in masks], axis=0)
    assert all(about(hit, COUNT / (FRAMES - 1), len(SEEDS), 4.5) for hit in hits[1:]), hits
    lengths = [length for mask in masks for length in blocks((~mask).any(axis=1))]
    assert np.mean(lengths) == pytest.approx(1 / (1 - COUNT / (FRAMES - 1)), rel=0.05)  # as of independent frames


def test_long_term_is_one_block_of_one_modality():
    masks = drawn("long_term")
    assert all(sorted((~mask).sum(axis=0).tolist()) == [0, COUNT] for mask in masks)
    assert all(blocks((~mask).any(axis=1)) == [COUNT] for mask in masks)
    assert about(sum(bool((~mask[:, 0]).any()) for mask in masks), 0.5, len(SEEDS))
    starts_are_uniform(masks)


def test_swap_is_one_block_in_which_the_missing_modality_changes_after_every_unit():
    masks = drawn("swap")
    units = []
    for mask in masks:
        lost = (~mask).any(axis=1)
        assert mask.any(axis=1).all()  # never both
        assert blocks(lost) == [COUNT]
        first = np.flatnonzero(lost)[0]
        side = (~mask[lost, 0]).astype(int)
        unit = next((int(k) for k in np.flatnonzero(np.diff(side)) + 1), COUNT)
        assert unit in (FRAMES // 6, FRAMES // 4, FRAMES // 2), (first, unit)
        np.testing.assert_array_equal(side, (side[0] + np.arange(COUNT) // unit) % 2)
        units.append(unit)
    counts = Counter(units)
    assert all(about(counts[FRAMES // cut], 1 / 3, len(SEEDS)) for cut in (6, 4, 2)), counts
    assert about(sum(bool(~mask[(~mask).any(axis=1), 0][0]) for mask in masks), 0.5, len(SEEDS))
    starts_are_uniform(masks)


@pytest.mark.parametrize(("pattern", "plain"), [("long_term_and_random", "long_term"), ("swap_and_random", "swap")])
def test_mixed_patterns_lack_both_in_half_of_the_block(pattern, plain):
    masks = drawn(pattern)
    places = np.zeros(COUNT)
    for mask in masks:
        lost = (~mask).any(axis=1)
        both = ~mask.any(axis=1)
        assert blocks(lost) == [COUNT]
        assert int(both.sum()) == COUNT // 2
        places += both[lost]
        single = (~mask[lost & ~both, 0]).astype(int)
        changes = int(np.abs(np.diff(single)).sum())
        assert changes <= (0 if plain == "long_term" else (COUNT - 1) // (FRAMES // 6))
    assert all(about(place, 0.5, len(SEEDS), 4.5) for place in places)
    if plain == "swap":
        assert any(len(set((~mask[:, 0] & mask[:, 1])[mask.any(axis=1)].tolist())) == 2 for mask in masks)
    starts_are_uniform(masks)
    assert [int((~m).any(axis=1).sum()) for m in drawn(pattern, 21, 0.3)] == [6] * len(SEEDS)
    assert [int((~m.any(axis=1)).sum()) for m in drawn(pattern, 9, 0.6)] == [2] * len(SEEDS)  # int(0.5 * 5)


def starts_are_uniform(masks):
    """In [1, F - n], each quarter as often as another."""
    starts = np.array([np.flatnonzero((~mask).any(axis=1))[0] for mask in masks])
    assert starts.min() >= 1
    assert starts.max() <= FRAMES - COUNT
    quarters = np.bincount((starts - 1) * 4 // (FRAMES - COUNT), minlength=4)
    assert all(about(count, 0.25, len(masks)) for count in quarters), quarters


def lengths_of(count):
    return {f"s{i:03d}": 20 + i * 7919 % 379 for i in range(count)}


@given(st.integers(1, 60), st.integers(0, 5), st.randoms())
def test_nothing_depends_on_the_order_of_processing(count, seed, shuffler):
    lengths = lengths_of(count)
    names = list(lengths)
    shuffler.shuffle(names)

    def made(order):
        losses = deal_ratios(
            deal_patterns({name: lengths[name] for name in order}, dataset="d", seed=seed), dataset="d", seed=seed
        )
        return losses, draw_masks(losses, dataset="d", seed=seed)

    one, other = made(list(lengths)), made(names)
    assert list(one[0].items()) == list(other[0].items())
    assert digest(one[1]) == digest(other[1])
    alone = draw_masks({names[0]: one[0][names[0]]}, dataset="d", seed=seed)
    np.testing.assert_array_equal(alone[names[0]], one[1][names[0]])


@given(st.integers(1, 80), st.integers(0, 3))
def test_batches_of_like_length_cover_patterns_and_ratios(count, seed):
    lengths = lengths_of(count)
    losses = deal_ratios(deal_patterns(lengths, dataset="d", seed=seed), dataset="d", seed=seed)
    assert [loss.frames for loss in losses.values()] == sorted(lengths.values(), reverse=True)
    order = list(losses.values())
    for start in range(0, count, 5):
        found = sorted(PATTERNS.index(loss.pattern) for loss in order[start : start + 5])
        assert found == list(range(len(found)))  # a last incomplete batch fills the first groups
    for pattern in PATTERNS:
        group = [loss for loss in order if loss.pattern == pattern]
        for start in range(0, len(group), 3):
            found = sorted(loss.ratio for loss in group[start : start + 3])
            assert found == list(RATIOS[-len(found) :])  # and the large ratios


def test_published_deals_have_the_same_structure(shared_data):
    """What the deal above is a copy of: checked on the published files themselves."""
    for tag, folder in FILES.items():
        losses = read_losses(shared_data / "miss" / folder / f"subgroups_data_{tag}.json.gz")
        ours = deal_ratios(deal_patterns({n: loss.frames for n, loss in losses.items()}, dataset=tag), dataset=tag)
        for key in ("pattern", "ratio"):
            counts = [Counter(getattr(loss, key) for loss in each.values()) for each in (losses, ours)]
            assert counts[0] == counts[1], tag


def test_another_seed_data_set_or_name_is_another_draw():
    losses = {name: Loss(300, "random", 0.6) for name in ("car", "man")}
    masks = [draw_masks(losses, dataset=d, seed=s) for d, s in (("a", 1), ("a", 2), ("b", 1))]
    every = [mask.tobytes() for each in masks for mask in each.values()]
    assert len(set(every)) == 6
    deals = {tuple(deal_patterns(lengths_of(40), dataset="d", seed=seed).items()) for seed in range(5)}
    assert len(deals) == 5


def test_only_some_patterns_and_ratios():
    losses = deal_patterns(lengths_of(7), dataset="d", patterns=["swap"])
    losses = deal_ratios(losses, dataset="d", ratios=[0.25])
    assert {(loss.pattern, loss.ratio) for loss in losses.values()} == {("swap", 0.25)}


def test_masks_stay_the_same_over_versions():
    """Results on these masks compare with each other only while nobody changes the draw."""
    losses = deal_ratios(deal_patterns(lengths_of(30), dataset="d"), dataset="d")
    said = "".join(f"{name}{loss.pattern}{loss.ratio}" for name, loss in losses.items())
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "66543c6dc12ad0b2"
    assert digest(draw_masks(losses, dataset="d"))[:16] == "7e7b372ceee28142"
