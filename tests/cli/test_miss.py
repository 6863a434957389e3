"""`duotrack data miss`, and `evaluate`, `score` and `report` under a mask."""

import csv
import gzip
import json
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.datasets.missing import read_masks, write_masks
from duotrack.datasets.patterns import PATTERNS, read_losses
from duotrack.models.zoo import MODELS
from duotrack.weights.safetensor import save_weights
from sequences import box, write_sequence

FRAMES = {"alpha": 10, "beta": 12, "gamma": 14, "delta": 16, "eps": 18, "zeta": 20}
FILES = {"rgbt234": "RGBT234-Miss", "lasher245": "LasHeR245-Miss", "vtuav176": "VTUAV176-Miss"}


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def miss(*arguments):
    return invoke("data", "miss", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name, frames in FRAMES.items():
        write_sequence(root, name, frames)
    return root


@pytest.fixture
def made(data, tmp_path):
    done = miss("--dataset", "folder", "--root", data, "--out", tmp_path / "miss")
    assert done.exit_code == 0, done.stderr
    return tmp_path / "miss" / "missing_results_folder.json"


def test_masks_of_a_folder(data, made, tmp_path):
    masks = read_masks(made)
    assert {name: len(mask) for name, mask in masks.items()} == FRAMES
    losses = read_losses(made.with_name("subgroups_data_folder.json"))
    assert {loss.pattern for loss in losses.values()} == set(PATTERNS)
    assert {name: loss.pattern for name, loss in losses.items()} == {
        name: loss.pattern for name, loss in read_losses(made.with_name("groups_data_folder.json")).items()
    }
    again = miss("--dataset", "folder", "--root", data, "--out", tmp_path / "again", "--seed", 42)
    assert again.exit_code == 0
    assert (tmp_path / "again" / made.name).read_bytes() == made.read_bytes()
    other = miss("--dataset", "folder", "--root", data, "--out", tmp_path / "other", "--seed", 7)
    assert "seed 7" in other.stdout
    assert (tmp_path / "other" / made.name).read_bytes() != made.read_bytes()


def test_one_pattern_and_ratio_as_json(data):
    done = miss("--dataset", "folder", "--root", data, "--pattern", "swap", "--ratio", "0.5", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    whole = {"sequences": 6, "frames": 90, "missing": 45}
    assert found["pattern"] == {"swap": whole}
    assert found["ratio"] == {"0.5": whole}
    assert found["availability"]["neither"] == 0
    assert sum(found["availability"].values()) == 90
    assert found["files"] == []


@pytest.mark.parametrize("tag", FILES)
def test_the_published_benchmarks(shared_data, tmp_path, tag):
    folder = shared_data / "miss" / FILES[tag]
    subgroups = folder / f"subgroups_data_{tag}.json.gz"
    done = miss("--dataset", f"{tag}-miss", "--subgroups", subgroups, "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.stderr
    assert (
        json.loads((tmp_path / f"subgroups_data_{tag}.json").read_text()).keys()
        == json.loads(gzip.decompress(subgroups.read_bytes())).keys()
    )
    ready = miss("--dataset", f"{tag}-miss", "--masks", tmp_path / f"missing_results_{tag}.json", "--json")
    assert ready.exit_code == 0, ready.stderr
    one, two = json.loads(done.stdout), json.loads(ready.stdout)
    assert (two["seed"], one["seed"]) == (None, 42)
    for key in ("sha256", "pattern", "ratio", "availability", "sequences", "frames", "missing"):
        assert one[key] == two[key], key
    from_groups = miss("--dataset", f"{tag}-miss", "--subgroups", folder / f"groups_data_{tag}.json.gz", "--json")
    patterns = json.loads(from_groups.stdout)["pattern"]
    assert {key: each["frames"] for key, each in patterns.items()} == {
        key: each["frames"] for key, each in one["pattern"].items()
    }


def test_ready_masks_are_written_anew(made, data, tmp_path):
    packed = tmp_path / "missing_results_folder.json.gz"
    packed.write_bytes(gzip.compress(made.read_bytes()))
    done = miss("--dataset", "folder", "--root", data, "--masks", packed, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.stderr
    assert [path.name for path in (tmp_path / "new").iterdir()] == [made.name]  # no subgroups beside it
    assert (tmp_path / "new" / made.name).read_bytes() == made.read_bytes()


REFUSED = {
    "no source": (["--dataset", "folder"], "which sequences"),
    "pattern": (["--pattern", "swop"], "'swap'"),
    "ratio": (["--ratio", "1"], "between 0 and 1"),
    "nan": (["--ratio", "nan"], "between 0 and 1"),
    "no ratio": (["--ratio", ","], "between 0 and 1"),
    "no pattern": (["--pattern", ""], "--pattern names none"),
    "ratio words": (["--ratio", "half"], "such as 0.6"),
    "dataset": (["--dataset", "foldr"], "folder"),
    "root": (["--root", "/nowhere"], "/nowhere"),
    "masks and seed": (["--masks", "x", "--seed", "1"], "--masks are ready"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_options_are_one_line(kind, data, tmp_path):
    options, words = REFUSED[kind]
    root = [] if kind == "no source" else ["--root", data]
    done = miss("--dataset", "folder", *root, "--out", tmp_path / "out", *options)
    assert done.exit_code == 2, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_files_that_are_there_stay(data, made):
    before = made.read_bytes()
    arguments = ["--dataset", "folder", "--root", data, "--out", made.parent, "--seed", 7]
    done = miss(*arguments)
    assert done.exit_code == 2
    assert "--overwrite" in done.stderr
    assert made.read_bytes() == before
    assert miss(*arguments, "--overwrite").exit_code == 0
    assert made.read_bytes() != before


def spoilt(made, kind):
    content = json.loads(made.read_text())
    if kind == "length":
        content["beta"]["data"].pop()
        content["beta"]["frames"] -= 1
    elif kind == "value":
        content["beta"]["data"][3][1] = 0.5
    elif kind == "unknown":
        content["beth"] = content["beta"]
    elif kind == "absent":
        del content["beta"]
    made.write_text(json.dumps(content))
    made.with_name("subgroups_data_folder.json").unlink()
    return made


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, MODELS["ckd-tiny"].build(), model="ckd-tiny", elimination="none", dtype="fp16")
    return path


def command(name, data, out, weights, *more):
    if name == "data miss":
        return [
            "data",
            "miss",
            "--dataset",
            "folder",
            "--root",
            data,
            *("--masks" if x == "--mask" else x for x in more),
        ]
    if name == "evaluate":
        fixed = ["--dataset", "folder", "--root", data, "--out", out, "--weights", weights]
        return ["evaluate", *fixed, "--device", "cpu", "--workers", 1, *more]
    return [name, "--benchmark", "folder", "--ground-truth", data, "--results", out, *more]


@pytest.fixture
def results(tmp_path):
    """A tracker that is right in the first half of each sequence."""
    (tmp_path / "mine").mkdir()
    for name, frames in FRAMES.items():
        rows = [box(i) if i < frames / 2 else (0, 0, 9, 9) for i in range(frames)]
        (tmp_path / "mine" / f"{name}.txt").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return tmp_path / "mine"


@pytest.mark.parametrize("name", ["data miss", "evaluate", "score", "report"])
@pytest.mark.parametrize("kind", ["length", "value", "unknown", "absent"])
def test_bad_masks_are_refused_with_the_name_of_the_sequence(name, kind, data, made, weights, results, tmp_path):
    if name == "report":
        pytest.importorskip("matplotlib")
    more = ["--out", tmp_path / "report"] if name == "report" else []
    out = tmp_path / "out" if name == "evaluate" else results
    done = invoke(*command(name, data, out, weights, "--mask", spoilt(made, kind), *more))
    assert done.exit_code == 2, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert ("beth" if kind == "unknown" else "beta") in done.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "report").exists()


def test_evaluate_under_a_mask_is_a_run_of_its_own(data, made, weights, tmp_path):
    out = tmp_path / "out"
    some = ("--sequences", "alpha,beta")
    complete = invoke(*command("evaluate", data, out, weights, *some, "--no-score"))
    masked = invoke(*command("evaluate", data, out, weights, *some, "--mask", made, "--json"))
    assert (complete.exit_code, masked.exit_code) == (0, 0), masked.stderr
    folders = [out / "ckd-tiny" / name for name in ("folder", "folder-miss")]
    records = [json.loads((folder / "run.json").read_text()) for folder in folders]
    score = json.loads(masked.stdout)
    assert [record["mask"] for record in records] == ["none", score["mask"]["sha256"]]
    assert sum(score["mask"]["frames"].values()) == 22
    assert {group["sequences"] for group in score["groups"]["pattern"].values()} == {1}
    assert set(score["groups"]) == {"pattern", "ratio"}
    rows = [np.loadtxt(folder / "alpha.txt", delimiter=",") for folder in folders]
    lost = np.flatnonzero(~read_masks(made)["alpha"].all(axis=1))[0]
    assert (rows[0][:lost] == rows[1][:lost]).all()
    assert (rows[0] != rows[1]).any()
    again = invoke(*command("evaluate", data, out, weights, *some, "--mask", made))
    assert "2 were finished before" in again.stdout
    assert re.search(r"swap|random|long_term", again.stdout)
    other = miss("--dataset", "folder", "--root", data, "--seed", 7, "--out", tmp_path / "other")
    assert other.exit_code == 0
    refused = invoke(*command("evaluate", data, out, weights, *some, "--mask", tmp_path / "other" / made.name))
    assert refused.exit_code == 2
    assert "mask" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_scores_are_of_the_run_under_the_same_masks(data, made, weights, tmp_path):
    out = tmp_path / "out"
    alone = ("--sequences", "alpha", "--no-score")
    for more in ([], ["--mask", made]):
        assert invoke(*command("evaluate", data, out, weights, *alone, *more)).exit_code == 0
    complete, under = (out / "ckd-tiny" / name for name in ("folder", "folder-miss"))
    other = made.with_name("other.json")
    write_masks(other, {name: ~mask for name, mask in read_masks(made).items()})

    def scored(results, *more):
        return invoke(*command("score", data, results, None, "--allow-missing", "--json", *more))

    for results, mask, words in (
        (complete, made, "ckd-tiny: its run was made without masks"),
        (under, other, "ckd-tiny: its run was made under other masks"),
    ):
        refused = scored(results, "--mask", mask)
        assert refused.exit_code == 2, refused.stdout
        assert words in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    found = json.loads(scored(under, "--mask", made).stdout)
    assert found["tracker"] == "ckd-tiny"  # not "folder-miss", the name of the folder
    assert any("made under masks" in note for note in json.loads(scored(under).stdout)["notes"])
    assert json.loads(scored(complete).stdout)["tracker"] == "ckd-tiny"
    (under / "run.json").write_text("[]")  # another program's
    assert json.loads(scored(under, "--mask", other).stdout)["tracker"] == "folder-miss"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "rgbt234-miss"], "rgbt234-miss needs --mask"),
        (["--subgroups", "x"], "with --mask"),
        (["--missing", "zeroes"], "zeros"),
        (["--sequences", ","], "--sequences names none"),
        (["--mask", "/nowhere.json"], "/nowhere.json: no such file"),
    ],
)
def test_evaluate_says_what_is_missing(options, words, data, weights, tmp_path):
    done = invoke(*command("evaluate", data, tmp_path / "out", weights), *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_score_by_pattern_and_ratio(data, made, results):
    done = invoke(*command("score", data, results, None, "--mask", made, "--json"))
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    plain = json.loads(invoke(*command("score", data, results, None, "--json", "--per-sequence")).stdout)
    assert [found[key] for key in ("PR", "SR", "NPR", "frames")] == [
        plain[key] for key in ("PR", "SR", "NPR", "frames")
    ]
    assert found["frames"] == sum(FRAMES.values())  # all of them, those without any image too
    losses = read_losses(made.with_name("subgroups_data_folder.json"))
    for kind in ("pattern", "ratio"):
        for key, rates in found["groups"][kind].items():
            names = [name for name, loss in losses.items() if f"{getattr(loss, kind)}" == key]
            assert rates["sequences"] == len(names)
            for metric in ("PR", "SR", "NPR"):
                mean = np.mean([plain["per_sequence"][name][metric] for name in names])
                assert rates[metric] == pytest.approx(mean), (kind, key, metric)
        assert sum(rates["sequences"] for rates in found["groups"][kind].values()) == len(FRAMES)
    text = invoke(*command("score", data, results, None, "--mask", made)).stdout
    highest = found["groups"]["ratio"]["0.9"]["sequences"]
    for words in ("pattern", "swap_and_random (1)", "ratio", f"0.9 ({highest})"):
        assert words in text
    assert "neither" in text


def test_a_mask_without_subgroups_is_said(data, made, results):
    made.with_name("subgroups_data_folder.json").unlink()
    text = invoke(*command("score", data, results, None, "--mask", made)).stdout
    assert "patterns and ratios are not known" in text
    found = json.loads(invoke(*command("score", data, results, None, "--mask", made, "--json")).stdout)
    assert found["groups"] == {}


def test_score_of_a_benchmark_takes_its_name_under_the_mask(tmp_path):
    for folder, text in (("truth/lasher_gt", "1,2,3,4\n" * 3), ("mine", "1,2,3,4\n" * 3)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "10runone.txt").write_text(text)
    (tmp_path / "truth" / "testingsetList.txt").write_text("10runone")
    write_masks(tmp_path / "m.json", {"10runone": np.ones((3, 2), bool)})
    where = [
        "score",
        "--ground-truth",
        tmp_path / "truth",
        "--results",
        tmp_path / "mine",
        "--mask",
        tmp_path / "m.json",
    ]
    for name in ("lasher", "lasher245-miss"):
        done = invoke(*where, "--benchmark", name, "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["benchmark"] == "lasher245-miss"


def test_report_by_pattern_and_ratio(data, made, results, tmp_path):
    pytest.importorskip("matplotlib")
    done = invoke(*command("report", data, results, None, "--mask", made, "--out", tmp_path / "report"))
    assert done.exit_code == 0, done.stderr
    assert "mask missing_results_folder.json" in done.stdout
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Missing modalities" in page
    for metric in ("PR", "SR"):
        rows = list(csv.DictReader((tmp_path / "report" / "tables" / f"missing_{metric}.csv").open(newline="")))
        assert [row["Lost"] for row in rows][:3] == ["random", "long term", "swap"]
        assert rows[-1]["Lost"] == "all"
        assert rows[-1]["Sequences"] == "6"
        assert all(0 < float(row["mine"]) < 1 for row in rows)
        assert (tmp_path / "report" / "figures" / f"missing_{metric}.pdf").is_file()


def test_report_of_a_published_benchmark_compares_with_published_numbers(shared_data, tmp_path):
    pytest.importorskip("matplotlib")
    evaluation = shared_data / "evaluation"
    subgroups = shared_data / "miss" / "LasHeR245-Miss" / "subgroups_data_lasher245.json.gz"
    assert miss("--dataset", "lasher", "--subgroups", subgroups, "--out", tmp_path).exit_code == 0
    mask = ["--mask", tmp_path / "missing_results_lasher245.json"]
    where = ["--benchmark", "lasher", "--ground-truth", evaluation / "gt_LasHeR.zip", "--out", tmp_path / "report"]
    done = invoke("report", *where, *mask, "--results", f"mine={evaluation / 'raw_LasHeR_APFNet.zip'}")
    assert done.exit_code == 0, done.stderr
    placing = list(csv.DictReader((tmp_path / "report" / "tables" / "placing.csv").open(newline="")))
    shown = {row["Tracker"]: (row["PR"], row["SR"]) for row in placing}
    assert {"IPL", "ViPT", "FlexTrack", "FlexTrack-V2", "SCDT", "mine"} == set(shown)
    assert shown["IPL"] == ("0.617", "0.464")
    assert "derived" in next(row["Source and protocol"] for row in placing if row["Tracker"] == "IPL")
    rows = list(csv.DictReader((tmp_path / "report" / "tables" / "missing_SR.csv").open(newline="")))
    column = "FlexTrack-V2 (later work)"
    assert [row[column] for row in rows] == ["0.549", "0.545", "0.544", "0.524", "0.557", "", "", "", "0.542"]
    assert [row["Sequences"] for row in rows] == ["49"] * 5 + ["80", "80", "85", "245"]
    assert "not with results on masks drawn here" in (tmp_path / "report" / "report.html").read_text()
