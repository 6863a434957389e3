"""The benchmarks around ckd-tiny: sequences of people and cars, OpenCV's trackers, the same frame twice."""

import csv
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from duotrack.datasets.layouts import open_lasher
from duotrack.evaluation.success import success_curve
from sequences import write_sequence

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as `rgbt_pairs` and `rgbt_object_crops`, made up."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    rows = ["subset,name,visible,infrared,width,height,boxes"]
    for number in range(9):
        for part in ("visible", "infrared"):
            (root / "pairs" / "s" / part).mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 256, (20, 30, 3), np.uint8)
            picture = cv2.resize(coarse, (480, 320), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(root / "pairs" / "s" / part / f"{number}.jpg"), picture)
        rows.append(f"s,{number},s/visible/{number}.jpg,s/infrared/{number}.jpg,480,320,1")
    (root / "pairs" / "pairs.csv").write_text("\n".join(rows))
    boxes = [f"s/visible/{number}.jpg,{40 + number},60,50,40,car,1.0" for number in range(9)]
    (root / "pairs" / "boxes.csv").write_text("\n".join(["file,x,y,w,h,class,visible_fraction", *boxes]))
    (root / "crops").mkdir()
    index = ["name,class,time,w,h"]
    with zipfile.ZipFile(root / "crops" / "crops.zip", "w") as archive:
        for kind in ("car", "person", "bicycle"):
            for number in range(6):
                size = (44, 90) if kind == "person" else (90, 60)
                for part in ("visible", "infrared"):
                    crop = np.full((size[1], size[0], 3), rng.integers(0, 256, 3), np.uint8)
                    archive.writestr(f"{part}/{kind}{number}.jpg", cv2.imencode(".jpg", crop)[1].tobytes())
                index.append(f"{kind}{number},{kind},day,{size[0]},{size[1]}")
    (root / "crops" / "index.csv").write_text("\n".join(index))
    return root


def make(pictures: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "people_and_cars.py"), str(pictures / "pairs"), str(pictures / "crops")]
    return subprocess.run([*command, str(out), *more], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    done = make(pictures, out, "--sequences", "8", "--frames", "24")
    assert done.returncode == 0, done.stderr
    return out


def test_sequences_are_in_the_layout_and_boxes_lie_inside(made: Path) -> None:
    sequences = open_lasher(made)
    assert len(sequences) == 8
    for sequence in sequences:
        assert len(sequence) == 24
        frame = sequence.read(0)
        assert frame.rgb is not None
        assert frame.aux is not None
        assert frame.rgb.shape == frame.aux.shape == (256, 320, 3)
        centres = sequence.boxes[:, :2] + sequence.boxes[:, 2:] / 2
        assert ((centres > 0) & (centres < [320, 256])).all()
        assert np.abs(np.diff(centres, axis=0)).max() < 15  # it has inertia


def test_conditions_are_what_the_table_says(made: Path) -> None:
    with open(made / "attributes.csv", newline="", encoding="utf-8") as file:
        rows = {row["sequence"]: row for row in csv.DictReader(file)}
    assert {row["night"] for row in rows.values()} == {"0", "1"}
    assert any(row["crossover"] for row in rows.values())
    lost = set()
    for sequence in open_lasher(made):
        row = rows[sequence.name]
        frames = [sequence.read(index) for index in range(len(sequence))]
        gone = {
            "visible": [i for i, frame in enumerate(frames) if frame.rgb is None],
            "infrared": [i for i, frame in enumerate(frames) if frame.aux is None],
        }
        side, _, span = row["dropout"].partition(" ")
        wanted = list(range(*map(int, span.split("-")))) if span else []
        assert [*gone["visible"], *gone["infrared"]] == wanted
        if side:
            assert gone[side] == wanted
            lost.add(side)
        light = np.mean([frame.rgb.mean() for frame in frames if frame.rgb is not None])
        assert (light < 60) == (row["night"] == "1")
    assert lost == {"visible", "infrared"}


def test_the_target_is_where_the_box_is(pictures: Path, tmp_path: Path) -> None:
    script = loaded("people_and_cars")
    frame = np.zeros((100, 120, 3), np.float32)
    box = np.array([30.25, 20.5, 40.0, 24.0])
    script.paste(frame, np.full((48, 80, 3), 200, np.float32), box)
    ys, xs = np.nonzero(frame[..., 0] > 100)
    seen = np.array([xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1])
    assert np.abs(seen - box).max() < 2.5
    script.paste(frame, np.full((48, 80, 3), 200, np.float32), np.array([-500.0, 0, 40, 24]))  # out of view: nothing


def test_the_same_seed_gives_the_same_files(pictures: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert make(pictures, tmp_path / name, "--sequences", "1", "--frames", "4", "--seed", seed).returncode == 0
    files = [sorted((tmp_path / name).rglob("*.jpg")) for name in "abc"]
    first, again, other = ([path.read_bytes() for path in paths] for paths in files)
    assert first == again
    assert first != other


def test_a_folder_that_holds_something_is_refused(pictures: Path, made: Path) -> None:
    done = make(pictures, made)
    assert done.returncode == 1
    assert "not empty" in done.stderr


def test_opencv_is_asked_once_for_each_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = loaded("compare_opencv")
    asked = []

    def answer(python: str, job: dict[str, object]) -> dict[str, object]:
        asked.append(job)
        return {"boxes": [job["box"]] * (len(job["frames"]) - 1), "seconds": 2.0, "opencv": "0"}

    monkeypatch.setattr(script, "ask_opencv", answer)
    copy = tmp_path / "copy"
    for name in "abc":
        write_sequence(copy, name)
    sequences = open_lasher(copy)
    options = {"python": sys.executable, "trackers": ["csrt"], "cache": tmp_path / "c.json", "workers": 2, "threads": 1}
    rows = script.opencv_rows(sequences, **options)
    assert list(rows) == ["CSRT, visible", "CSRT, thermal"]
    assert len(asked) == 6
    still = [script.success_auc(np.repeat(s.boxes[:1], len(s) - 1, axis=0), s) for s in sequences]
    assert [run.auc for run in rows["CSRT, visible"]] == still
    assert script.summary("row", rows["CSRT, visible"]).endswith("| 3 | " + f"{np.mean(still):.3f} | 11.5 |")
    assert script.opencv_rows(sequences, **options) == rows
    assert len(asked) == 6
    (copy / sequences[0].name / "visible" / "000003.jpg").write_bytes(b"another picture")
    for python, words in ((None, "no --opencv"), ("nowhere/python", "no program nowhere/python")):
        with pytest.raises(SystemExit, match=f"^1 of 6 answers of OpenCV are not in .*{words}; give --opencv PYTHON"):
            script.opencv_rows(sequences, **options | {"python": python})
    assert len(asked) == 6
    script.opencv_rows(sequences, **options)
    assert len(asked) == 7
    assert len(script.opencv_rows(sequences, **options | {"python": None})) == 2  # the cache has all of them


def test_an_environment_that_fails_without_a_word_is_named(tmp_path: Path) -> None:
    script = loaded("compare_opencv")
    write_sequence(tmp_path, "one")
    job = script.job_of(open_lasher(tmp_path)[0], "visible", "csrt", 1)
    with pytest.raises(SystemExit, match=r"false opencv_trackers\.py: ended with status 1"):
        script.ask_opencv("false", job)


def test_what_opencv_says_of_an_error_is_shown(tmp_path: Path) -> None:
    script = loaded("compare_opencv")
    write_sequence(tmp_path, "one")
    job = script.job_of(open_lasher(tmp_path)[0], "visible", "csrt", 1)
    if hasattr(cv2, "TrackerCSRT_create"):
        pytest.skip("this environment has opencv-contrib")
    with pytest.raises(SystemExit, match="is it opencv-contrib"):
        script.ask_opencv(sys.executable, job)


def test_trackers_of_opencv_skip_what_cannot_be_read(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = loaded("opencv_trackers")
    seen = []

    class Still:
        def init(self, frame: np.ndarray, box: list[int]) -> None:
            seen.append(box)

        def update(self, frame: np.ndarray) -> tuple[bool, list[int]]:
            seen.append(frame.shape)
            return len(seen) != 3, [1, 2, 3, 4]

    monkeypatch.setattr(script.cv2, "TrackerKCF_create", Still, raising=False)
    folder = next(path for path in made.rglob("*.jpg") if path.stat().st_size == 0).parent
    frames = [str(path) for path in sorted(folder.iterdir())]
    empty = sum(not Path(path).stat().st_size for path in frames)
    answer = script.run({"tracker": "kcf", "threads": 1, "box": [9.6, 8, 7, 6], "frames": frames})
    assert seen[0] == [10, 8, 7, 6]
    assert len(seen) == len(frames) - empty
    assert len(answer["boxes"]) == len(frames) - 1
    assert answer["boxes"][:3] == [[1, 2, 3, 4]] * 3
    json.dumps(answer)


def test_elsewhere_hardly_overlaps() -> None:
    from duotrack.boxes import iou_xywh

    script = loaded("same_frame")
    rng = np.random.default_rng(0)
    box = np.array([100.0, 100, 40, 60])
    starts = np.stack([script.elsewhere(box, rng, shift=1.2, scale=1.25) for _ in range(4000)])
    assert 0.09 < np.mean(iou_xywh(starts, box[None])) < 0.14
    centres = starts[:, :2] + starts[:, 2:] / 2 - [120, 130]
    assert np.abs(centres).max() <= 1.2 * np.sqrt(40 * 60)
    assert (starts[:, 2:] / box[2:]).max() <= 1.25


def test_success_curve() -> None:
    curve = success_curve([1.0, 0.5, 0.0, np.nan])
    assert curve[0] == 2 / 3  # IoU 0 is not above 0
    assert curve[10] == 1 / 3  # 0.5 is not above 0.5
    assert curve[20] == 0
    assert np.isnan(success_curve([np.nan])).all()
