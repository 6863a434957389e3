"""Depth and event through the real commands: tracked, evaluated, scored by their own protocols, refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.models.zoo import MODELS
from duotrack.weights.safetensor import save_weights
from kinds import depth_map, event_picture, rows, save, write_depth, write_event
from sequences import box, scene

FRAMES = 5
START = ",".join(map(str, box(0)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    torch.manual_seed(3)
    net = MODELS["ckd-tiny"].build()
    made = {}
    for task in ("depth", "event"):
        made[task] = tmp_path_factory.mktemp("weights") / f"{task}.safetensors"
        extra = {"task": task}
        save_weights(made[task], net, model="ckd-tiny", elimination="none", dtype="fp16", extra=extra)
    return made


def invoke(*arguments: object):
    return CliRunner().invoke(app, list(map(str, arguments)))


def evaluate(dataset: str, root: Path, out: Path, weights: Path, *more: object):
    where = ("--dataset", dataset, "--root", root, "--out", out, "--weights", weights, "--device", "cpu")
    return invoke("evaluate", *where, "--workers", 1, *more)


DEPTH_SETS = {
    "depthtrack": ("test", ("bag01_indoor", "adapter01_indoor"), ["--sequences", "bag01_indoor,adapter01_indoor"]),
    "rgbd1k": ("", ("cup_1", "dog_2"), []),
}


@pytest.mark.parametrize("dataset", DEPTH_SETS)
def test_a_depth_benchmark_from_frames_to_f(dataset, weights, tmp_path):
    place, names, chosen = DEPTH_SETS[dataset]
    root, out = tmp_path / "data", tmp_path / "out"
    for name in names:
        write_depth(root / place, name, FRAMES, absent=(3,), depths={2: np.zeros_like(depth_map(0))})
    done = evaluate(dataset, root, out, weights["depth"], *chosen, "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert "2 images in 2 sequences could not be read or hold nothing" in done.stderr
    made = json.loads(done.stdout)
    assert (made["sequences"], made["frames"]) == (2, 8)  # absent frames are left out of the rates
    long = made["longterm"]
    assert long["clipped"]
    assert 0 < long["F"] <= 1
    assert long["F"] == pytest.approx(2 * long["precision"] * long["recall"] / (long["precision"] + long["recall"]))
    folder = out / "ckd-tiny" / dataset
    for name in names:
        assert len((folder / f"{name}.txt").read_text().splitlines()) == FRAMES
        assert len((folder / f"{name}_confidence.value").read_text().splitlines()) == FRAMES
        assert "nothing was measured (all zero)" in (folder / "notes" / f"{name}.log").read_text()

    # a tracker that is always right and sure where the target is there
    perfect = tmp_path / "perfect"
    perfect.mkdir()
    for name in names:
        (perfect / f"{name}.txt").write_text(rows(FRAMES))
        (perfect / f"{name}_confidence.value").write_text("".join(f"{0.1 if i == 3 else 0.9}\n" for i in range(FRAMES)))
    (root / "list.txt").write_text("".join(f"{name}\n" for name in names))
    args = ("--benchmark", dataset, "--ground-truth", root, "--results", perfect)
    scored = json.loads(invoke("score", *args, "--json").stdout)
    assert (scored["longterm"]["precision"], scored["longterm"]["recall"], scored["longterm"]["F"]) == (1, 1, 1)
    assert "long-term: precision 1.0000, recall 1.0000, F 1.0000" in invoke("score", *args).stdout


def test_visevent_from_frames_to_rates(weights, tmp_path):
    names = ("00141_tank_outdoor2", "00147_tank_outdoor2")
    root, out = tmp_path / "data", tmp_path / "out"
    for name in names:
        write_event(root, name, FRAMES, absent=(2, 4))
    chosen = ("--sequences", ",".join(names))
    done = evaluate("visevent", root, out, weights["event"], *chosen, "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    made = json.loads(done.stdout)
    assert (made["sequences"], made["frames"], made["counts"]["absent"]) == (2, 10, 4)
    assert "absent frames misses" in made["protocol"]
    assert "longterm" not in made

    # the ground truth itself: absent frames stay in the denominator of both rates
    perfect = tmp_path / "perfect"
    perfect.mkdir()
    for name in names:
        (perfect / f"{name}.txt").write_text(rows(FRAMES))
    (root / "testlist.txt").write_text("".join(f"{name}\n" for name in names))
    args = ("--benchmark", "visevent", "--ground-truth", root, "--results", perfect, "--json", "--attributes")
    scored = json.loads(invoke("score", *args).stdout)
    assert scored["PR"] == pytest.approx(3 / 5)
    assert scored["SR"] == pytest.approx(3 / 5 * 20 / 21)
    assert scored["attributes"]
    assert set(scored["attributes"]) <= {f"A{i:02d}" for i in range(1, 18)}


def test_a_sequence_that_begins_without_its_target(weights, tmp_path, caplog):
    name = "00141_tank_outdoor2"
    folder = write_event(tmp_path / "data", name, FRAMES, absent=(0, 1))
    boxes = (folder / "groundtruth.txt").read_text().splitlines()
    boxes[:2] = ["0,0,0,0"] * 2  # nothing to begin with
    (folder / "groundtruth.txt").write_text("\n".join(boxes))
    done = evaluate("visevent", tmp_path / "data", tmp_path / "out", weights["event"], "--sequences", name, "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert f"{name} (2 frames)" in caplog.text
    results = tmp_path / "out" / "ckd-tiny" / "visevent"
    rows = [[float(x) for x in row.split(",")] for row in (results / f"{name}.txt").read_text().splitlines()]
    assert rows[:3] == [[float(x) for x in boxes[2].split(",")]] * 3, "rows keep the numbers of their frames"
    assert len(rows) == len((results / f"{name}_time.txt").read_text().splitlines()) == FRAMES
    scores = [float(line) for line in (results / f"{name}_confidence.value").read_text().splitlines()]
    assert scores[:3] == [0, 0, 1]
    assert json.loads(done.stdout)["counts"]["absent"] == 2


@pytest.mark.parametrize(
    ("labels", "words"),
    [(["1"], "1 labels for 3 boxes"), (["1", "7", "1"], "row 2: got 7, a label is 0 (absent) or 1")],
)
def test_labels_that_are_none(weights, tmp_path, labels, words):
    name = "00141_tank_outdoor2"
    folder = write_event(tmp_path / "data", name, 3)
    (folder / "absent_label.txt").write_text("\n".join(labels))
    done = evaluate("visevent", tmp_path / "data", tmp_path / "out", weights["event"], "--sequences", name)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_event_frames_that_are_not_there_are_counted(weights, tmp_path, caplog):
    name = "00141_tank_outdoor2"
    write_event(tmp_path / "data", name, FRAMES, left_out=2)
    done = evaluate("visevent", tmp_path / "data", tmp_path / "out", weights["event"], "--sequences", name)
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert f"{name} (vis_imgs and event_imgs 5 and 3, 2 lack)" in caplog.text
    assert "2 images in 1 sequences could not be read" in done.stdout


def test_depth_of_one_sequence_that_is_none_fails_that_one(weights, tmp_path):
    write_depth(tmp_path / "data", "fine", 2)
    write_depth(tmp_path / "data", "wrong", 3, depths={1: depth_map(1).astype(np.uint8)})
    done = evaluate("rgbd1k", tmp_path / "data", tmp_path / "out", weights["depth"])
    assert done.exit_code == 2
    assert "1 of 2 sequences could not be tracked (wrong: " in done.stderr
    assert "00000002.png: pixels have 8 bits, depth comes as 16-bit integers in millimetres" in done.stderr
    assert (tmp_path / "out/ckd-tiny/rgbd1k/fine.txt").exists()


def test_the_channel_order_changes_what_is_seen(weights, tmp_path):
    write_depth(tmp_path / "data", "a", 4)
    boxes = {}
    for colours in ("bgr", "rgb"):
        done = evaluate("rgbd1k", tmp_path / "data", tmp_path / colours, weights["depth"], "--depth-colours", colours)
        assert done.exit_code == 0, done.stderr
        boxes[colours] = (tmp_path / colours / "ckd-tiny/rgbd1k/a.txt").read_text()
    assert boxes["bgr"] != boxes["rgb"]
    again = evaluate("rgbd1k", tmp_path / "data", tmp_path / "bgr", weights["depth"], "--depth-colours", "rgb")
    assert again.exit_code == 2
    assert "holds results on other data" in again.stderr


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """Folders of frames for `track`."""
    root = tmp_path_factory.mktemp("sources")
    made = {
        "rgb": lambda i: scene(i, "visible")[:, :, ::-1],
        "depth": depth_map,
        "metres": lambda i: depth_map(i).astype(np.float32) / 1000,
        "8 bits": lambda i: (depth_map(i) >> 8).astype(np.uint8),
        "zero": lambda i: np.zeros_like(depth_map(i)),
        "event": event_picture,
        "short": event_picture,
    }
    for name, picture in made.items():
        (root / name).mkdir()
        for i in range(FRAMES - (name == "short")):
            save(root / name / f"{i:03d}.{'tiff' if name == 'metres' else 'png'}", picture(i))
    return {name: root / name for name in made}


def track(sources: dict[str, Path], aux: str, out: Path, *more: object, rgb: bool = True):
    visible = ("--rgb", sources["rgb"]) if rgb else ()
    options = ("--box", START, "--out", out, "--device", "cpu", "--no-overlay", *more)
    return invoke("track", *visible, "--aux", sources[aux], *options)


@pytest.mark.parametrize("kind", ["depth", "event"])
def test_track(kind, sources, weights, tmp_path):
    done = track(sources, kind, tmp_path / "out", "--modality", kind, "--weights", weights[kind])
    assert done.exit_code == 0, (done.stderr, done.exception)
    records = [json.loads(line) for line in (tmp_path / "out" / "track.jsonl").read_text().splitlines()]
    assert [record["available"] for record in records] == [["rgb", "aux"]] * FRAMES
    assert not any("notes" in record for record in records)


def test_track_with_depth_of_zeros_goes_on_without_it(sources, weights, tmp_path, caplog):
    done = track(sources, "zero", tmp_path / "out", "--modality", "depth", "--weights", weights["depth"])
    assert done.exit_code == 0, (done.stderr, done.exception)
    records = [json.loads(line) for line in (tmp_path / "out" / "track.jsonl").read_text().splitlines()]
    assert [record["available"] for record in records] == [["rgb"]] * FRAMES
    assert all("all zero" in record["notes"][0] for record in records)
    assert len([message for message in caplog.messages if "all zero" in message]) == 1
    assert f"{FRAMES} frames lack aux" in done.stdout


def test_a_thermal_model_is_warned_of_and_tracks(sources, tmp_path, caplog):
    done = track(sources, "depth", tmp_path / "out", "--modality", "depth")
    assert done.exit_code == 0, (done.stderr, done.exception)
    warning = "ckd-tiny has seen RGB and thermal only: how well it tracks with depth was not measured"
    assert caplog.messages.count(warning) == 1


REFUSED = {
    "metres": ("metres", ("--modality", "depth"), True, "aux metres: pixels are float32, depth comes as 16-bit"),
    "8 bits": ("8 bits", ("--modality", "depth"), True, "aux 8 bits: pixels have 8 bits, depth comes as 16-bit"),
    "nothing but zeros": (
        "zero",
        ("--modality", "depth"),
        False,
        "frame 0 has no image that can be used (aux zero: nothing was measured",
    ),
    "another length": ("short", ("--modality", "event"), True, "rgb has 5 frames and aux 4; cut them to the same"),
    "16-bit events": ("depth", ("--modality", "event"), True, "aux depth: pixels have 16 bits; event frames are"),
    "modality": ("depth", ("--modality", "dept"), True, "modality 'dept' is not one of thermal, depth, event; did you"),
    "colours of what is no depth": (
        "event",
        ("--modality", "event", "--depth-colours", "rgb"),
        True,
        "--depth-colours rgb is for rendered depth, but auxiliary frames are event; leave it out",
    ),
    "colours": ("depth", ("--depth-colours", "gbr"), True, "depth colours 'gbr' are neither bgr nor rgb"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_writes_nothing(case, sources, weights, tmp_path):
    aux, options, rgb, words = REFUSED[case]
    task = "event" if "event" in options else "depth"
    done = track(sources, aux, tmp_path / "out", *options, "--weights", weights[task], rgb=rgb)
    assert done.exit_code == 2, (done.stdout, done.stderr, done.exception)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()


def test_weights_for_something_else_are_refused(sources, weights, tmp_path):
    words = "event.safetensors was trained on RGB and event, the auxiliary frames are depth; give weights for depth"
    tracked = track(sources, "depth", tmp_path / "out", "--modality", "depth", "--weights", weights["event"])
    write_depth(tmp_path / "data", "a", 2)
    evaluated = evaluate("rgbd1k", tmp_path / "data", tmp_path / "out", weights["event"])
    for done in (tracked, evaluated):
        assert done.exit_code == 2, (done.stdout, done.exception)
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()
    forgotten = track(sources, "depth", tmp_path / "out", "--weights", weights["depth"])
    assert "the auxiliary frames are thermal" in forgotten.stderr
    assert "or say --modality depth" in forgotten.stderr


def test_a_benchmark_has_one_modality(weights, tmp_path):
    write_depth(tmp_path / "data", "a", 2)
    done = evaluate("rgbd1k", tmp_path / "data", tmp_path / "out", weights["event"], "--modality", "event")
    assert done.exit_code == 2
    assert "RGBD1K is RGB and depth, not event; leave --modality out" in done.stderr


def test_a_folder_of_ones_own_shows_what_it_is_said_to(weights, tmp_path):
    folder = tmp_path / "data" / "mine"
    write_depth(tmp_path / "data", "mine", 3, boxes="init.txt")
    (folder / "color").rename(folder / "visible")
    done = evaluate("folder", tmp_path / "data", tmp_path / "out", weights["depth"], "--modality", "depth", "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert json.loads(done.stdout)["frames"] == 3
    checked = invoke(
        "data", "check", "--dataset", "folder", "--modality", "depth", "--root", tmp_path / "data", "--json"
    )
    assert json.loads(checked.stdout)["images"] == 6
