"""Running a benchmark: files, resumption, batches, worker processes, ranks; a true small network on real files."""

import json
import os
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from duotrack.datasets.layouts import open_lasher
from duotrack.errors import InputError
from duotrack.evaluation.lockstep import Advanced, Failed, Tracked, track_sequences
from duotrack.evaluation.pool import track_in_pool
from duotrack.evaluation.ranks import Ranks, join_ranks, shard
from duotrack.evaluation.run import Outcome, Setup, Started, run_benchmark
from duotrack.models.zoo import MODELS
from duotrack.tracking.load import load_tracker
from duotrack.tracking.tracker import Tracker
from duotrack.weights.safetensor import save_weights
from scripted import GEOMETRY, ScriptedNet
from sequences import HEIGHT, WIDTH, scene, write_sequence

FRAMES = {"alpha": 5, "beta`s": 3, "gamma": 6, "delta": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random values for ckd-tiny; its boxes wander."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, MODELS["ckd-tiny"].build(), model="ckd-tiny", elimination="none", dtype="fp16")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Sequences of different length; one lacks a modality, one has an image that is no image."""
    root = tmp_path_factory.mktemp("data")
    for name, frames in FRAMES.items():
        write_sequence(root, name, frames, ("infrared",) if name == "delta" else ("visible", "infrared"))
    (root / "gamma" / "visible" / "000003.jpg").write_bytes(b"\xff\xd8\xff no image")
    return root


def boxes_of(folder: Path) -> dict[str, bytes]:
    """Sequence -> its boxes and its confidences."""
    boxes = [path for path in folder.glob("*.txt") if not path.stem.endswith("_time")]
    return {path.stem: path.read_bytes() + (folder / f"{path.stem}_confidence.value").read_bytes() for path in boxes}


@pytest.fixture(scope="module")
def setup(weights) -> Setup:
    return Setup(model="ckd-tiny", weights=weights, device="cpu", workers=1)


@pytest.fixture(scope="module")
def reference(data, setup, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run, one sequence after the other."""
    folder = tmp_path_factory.mktemp("reference")
    run_benchmark(open_lasher(data), folder, setup, dataset="folder")
    return folder


def changed(setup: Setup, **changes: object) -> Setup:
    return Setup(**{**vars(setup), **changes})


def test_files_hold_what_the_tracker_says(reference, data, weights):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for sequence in open_lasher(data):
        tracker = load_tracker("ckd-tiny", weights=weights, device="cpu", redetect=False)
        expected = []
        for index in range(len(sequence)):
            pair = sequence.read(index)
            first = index == 0
            result = (
                tracker.init(pair.rgb, pair.aux, sequence.boxes[0]) if first else tracker.update(pair.rgb, pair.aux)
            )
            expected.append(result.box)
        written = np.loadtxt(reference / f"{sequence.name}.txt", delimiter=",", ndmin=2)
        np.testing.assert_array_equal(written, expected)  # full precision: not one bit is lost
        scores = np.loadtxt(reference / f"{sequence.name}_confidence.value", ndmin=1)
        assert scores[0] == 1
        assert scores.shape == (len(sequence),)
        times = np.loadtxt(reference / f"{sequence.name}_time.txt", ndmin=1)
        assert times.shape == (len(sequence),)
        assert (times > 0).all()
    torch.set_num_threads(threads)
    notes = (reference / "notes" / "gamma.log").read_text()
    assert notes.startswith("frame 3: rgb: cannot read ")
    assert [path.name for path in (reference / "notes").iterdir()] == ["gamma.log"]
    record = json.loads((reference / "run.json").read_text())
    assert (record["model"], record["elimination"], record["device"], record["stack"]) == ("ckd-tiny", "none", "cpu", 1)
    assert sorted(record["sequences"]) == sorted(FRAMES)


@pytest.mark.parametrize("change", [{"batch": 3}, {"workers": 2}], ids=["batch", "workers"])
def test_batches_and_workers_change_no_byte(change, reference, data, setup, tmp_path):
    events = []
    outcome = run_benchmark(
        open_lasher(data), tmp_path, changed(setup, **change), dataset="folder", watch=events.append
    )
    assert boxes_of(tmp_path) == boxes_of(reference)
    assert outcome == Outcome(tracked=4, done=0, frames=16, notes={"gamma": 1})
    assert events[0] == Started(sequences=4, frames=16, done=0)
    assert sum(event.frames for event in events if isinstance(event, Advanced)) == 16
    assert {event.name for event in events if isinstance(event, Tracked)} == set(FRAMES)


def copy_of(reference: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in (path for path in reference.iterdir() if path.is_file()):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def damage(path: Path, kind: str) -> None:
    text = path.read_text()
    if kind == "gone":
        path.unlink()
    else:
        lines = {"a row short": text.splitlines()[:-1], "cut off": [text[:-30]], "rubbish": ["x"] * 5, "empty": []}
        path.write_text("\n".join(lines[kind]))


@pytest.mark.parametrize("kind", ["gone", "a row short", "cut off", "rubbish", "empty"])
def test_only_what_is_not_complete_is_tracked_again(kind, reference, data, setup, tmp_path, monkeypatch):
    folder = copy_of(reference, tmp_path / "run")
    damage(folder / "alpha.txt", kind)
    (folder / ".alpha-k2x9.txt").write_text("1,2")  # what a kill in the middle of a write leaves
    kept = {path: path.stat().st_ino for path in folder.glob("[bgd]*.txt")}
    outcome = run_benchmark(open_lasher(data), folder, setup, dataset="folder")
    assert (outcome.tracked, outcome.done, outcome.frames) == (1, 3, 5)
    assert boxes_of(folder) == boxes_of(reference)
    assert {path: path.stat().st_ino for path in kept} == kept
    assert not list(folder.glob(".*"))


def test_some_sequences_first_then_all(reference, data, setup, tmp_path):
    assert run_benchmark(open_lasher(data, names=["delta"]), tmp_path, setup, dataset="folder").tracked == 1
    (tmp_path / "gamma.txt").write_text("1,2,3,4\n" * 6)  # nobody vouches for it
    outcome = run_benchmark(open_lasher(data), tmp_path, setup, dataset="folder")
    assert (outcome.tracked, outcome.done) == (3, 1)
    assert boxes_of(tmp_path) == boxes_of(reference)
    assert run_benchmark(open_lasher(data), tmp_path, setup, dataset="folder").done == 4


OTHER_RUNS = [
    ({"elimination": "mce"}, "folder", "elimination none there, mce now"),
    ({"precision": "bf16"}, "folder", "precision fp32 there, bf16 now"),
    ({"integers": True}, "folder", "integers False there, True now"),
    ({}, "lasher", "dataset folder there, lasher now"),
    ({"weights": "other"}, "folder", "weights [0-9a-f]+ there, [0-9a-f]+ now"),
]


@pytest.mark.parametrize(("change", "dataset", "words"), OTHER_RUNS, ids=[words.split()[0] for *_, words in OTHER_RUNS])
def test_another_run_is_refused(change, dataset, words, reference, data, setup, tmp_path):
    folder = copy_of(reference, tmp_path / "run")
    if "weights" in change:
        other = tmp_path / "other.safetensors"
        save_weights(other, MODELS["ckd-tiny"].build(), model="ckd-tiny", elimination="none", dtype="fp16")
        change = {"weights": other}
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=f"{words}.*--overwrite"):
        run_benchmark(open_lasher(data), folder, changed(setup, **change), dataset=dataset)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_other_data_and_results_without_a_record_are_refused_unless_overwritten(reference, data, setup, tmp_path):
    folder = copy_of(reference, tmp_path / "run")
    root = tmp_path / "data"
    for name in FRAMES:
        write_sequence(root, name, 2)
    with pytest.raises(InputError, match=r"4 sequences have changed.*alpha"):
        run_benchmark(open_lasher(root), folder, setup, dataset="folder")
    (folder / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"run\.json.*not a run's record"):
        run_benchmark(open_lasher(data), folder, setup, dataset="folder")
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"no run\.json"):
        run_benchmark(open_lasher(data), folder, setup, dataset="folder")
    outcome = run_benchmark(open_lasher(data, names=["delta"]), folder, setup, dataset="folder", overwrite=True)
    assert (outcome.tracked, outcome.done) == (1, 0)
    assert (folder / "delta.txt").read_bytes() == (reference / "delta.txt").read_bytes()


def test_integers_as_the_release_writes_them(data, setup, reference, tmp_path):
    run_benchmark(open_lasher(data, names=["alpha"]), tmp_path, changed(setup, integers=True), dataset="folder")
    fine = np.loadtxt(reference / "alpha.txt", delimiter=",")
    rows = [line.split("\t") for line in (tmp_path / "alpha.txt").read_text().splitlines()]
    assert rows == [[str(int(value)) for value in row] for row in fine.tolist()]


def test_a_sequence_that_cannot_be_tracked_does_not_stop_the_others(setup, tmp_path):
    root = tmp_path / "data"
    for name in ("bad first", "bad box", "fine", "shrinks"):
        write_sequence(root, name, 3)
    (root / "bad first" / "visible" / "000000.jpg").write_bytes(b"")
    (root / "bad first" / "infrared" / "000000.jpg").write_bytes(b"")
    (root / "bad box" / "init.txt").write_text("0,0,0,0\n" * 3)
    import cv2

    for side in ("visible", "infrared"):
        cv2.imwrite(str(root / "shrinks" / side / "000002.jpg"), scene(2, side)[: HEIGHT // 2])
    outcome = run_benchmark(open_lasher(root), tmp_path / "run", changed(setup, batch=4), dataset="folder")
    assert outcome.tracked == 1
    assert sorted(boxes_of(tmp_path / "run")) == ["fine"]
    assert outcome.failed.keys() == {"bad first", "bad box", "shrinks"}
    assert "frame 0: both images are missing" in outcome.failed["bad first"]
    assert "frame 0: box 0,0,0,0 has no size" in outcome.failed["bad box"]
    assert f"frame 2: the frame is {WIDTH}x{HEIGHT // 2}" in outcome.failed["shrinks"]


def test_frames_read_ahead_are_the_same_frames(data):
    tracker = Tracker(ScriptedNet(), geometry=GEOMETRY)
    runs = [
        {event.name: event.boxes.tobytes() for event in track_sequences(tracker, open_lasher(data), batch=2, **options)
         if isinstance(event, Tracked)}
        for options in ({}, {"readers": 3})
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert runs[0].keys() == FRAMES.keys()


def test_in_stacks_a_sequence_does_not_depend_on_the_others(data, weights):
    """What a resumed run on a GPU rests on; here on the CPU."""
    tracker = load_tracker("ckd-tiny", weights=weights, device="cpu", redetect=False)
    runs = []
    for names in (None, ["gamma", "beta`s"]):
        events = track_sequences(tracker, open_lasher(data, names=names), batch=3, stack=3, readers=2)
        runs.append({event.name: event.boxes.tobytes() for event in events if isinstance(event, Tracked)})
    assert runs[1].keys() == {"gamma", "beta`s"}
    assert runs[1].items() <= runs[0].items()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": Path("nowhere.safetensors")}, "nowhere.safetensors"),
        ({"model": "ckd-base", "weights": None}, "no weights inside the package.*--weights"),
        ({"model": "ckd-tinny"}, "ckd-tiny"),
        ({"batch": 0}, "batch 0"),
        ({"workers": -1}, "workers -1"),
        ({"device": "tpu"}, "tpu"),
        ({"backend": "compiled", "precision": "int8"}, "int8"),
        ({"elimination": "max"}, "max"),
    ],
)
def test_bad_setups_are_refused_before_anything_is_written(change, words, data, setup, tmp_path):
    with pytest.raises(InputError, match=words):
        run_benchmark(open_lasher(data), tmp_path / "run", changed(setup, **change), dataset="folder")
    assert not (tmp_path / "run").exists()


def test_two_sequences_of_one_name_are_refused(data, setup, tmp_path):
    twice = open_lasher(data, names=["alpha", "alpha"])
    with pytest.raises(InputError, match="one name"):
        run_benchmark(twice, tmp_path, setup, dataset="folder")


def dies(tracked: Tracked) -> None:
    os._exit(9)


def full(tracked: Tracked) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("keep", "error", "words"),
    [(dies, InputError, r"ended while tracking \w+ \(exit code 9.*fewer --workers"), (full, OSError, "No space left")],
    ids=["dies", "disk full"],
)
def test_a_worker_that_cannot_go_on_ends_the_run(keep, error, words, data, weights):
    load = partial(load_tracker, "ckd-tiny", weights=weights, device="cpu")
    with pytest.raises(error, match=words):
        list(track_in_pool(open_lasher(data, names=["delta", "alpha"]), load=load, keep=keep, workers=1))


def test_shards_are_even_and_the_same_everywhere():
    lengths = {f"s{i}": 1 + i * i % 37 for i in range(50)}
    hands = shard(lengths, 3)
    assert sorted(chain(*hands)) == sorted(lengths)
    assert hands == shard(dict(reversed(list(lengths.items()))), 3)
    loads = [sum(lengths[name] for name in hand) for hand in hands]
    assert max(loads) - min(loads) <= max(lengths.values())
    assert all(lengths[a] >= lengths[b] for hand in hands for a, b in pairwise(hand))


@pytest.mark.parametrize("environment", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}, {"WORLD_SIZE": "0"}])
def test_ranks_that_make_no_sense_are_refused(environment, monkeypatch):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match="torchrun"), join_ranks():
        pass


def test_alone_without_torchrun(monkeypatch):
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(key, raising=False)
    with join_ranks() as ranks:
        assert ranks == Ranks()
        assert (ranks.share(3), ranks.gather(4)) == (3, [4])


def test_failed_is_an_event(data):
    tracker = Tracker(ScriptedNet(), geometry=GEOMETRY)
    (sequence,) = open_lasher(data, names=["alpha"])
    sequence.boxes[0] = np.nan
    events = list(track_sequences(tracker, [sequence]))
    assert [type(event) for event in events] == [Failed, Advanced]
