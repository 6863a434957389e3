"""RGB-D and RGB-event data sets: layouts, labels, names, checking."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duotrack.datasets.benchmarks import benchmark, open_benchmark, showing
from duotrack.datasets.check import check_benchmark
from duotrack.datasets.fingerprint import fingerprint
from duotrack.datasets.layouts import DEPTHTRACK, RGBD1K, RGBD1K_TRAIN, VISEVENT, open_layout, own_layout
from duotrack.depth import colour_depth
from duotrack.errors import InputError
from kinds import depth_map, event_picture, save, write_depth, write_event
from sequences import box, write_sequence


@pytest.mark.parametrize("colours", ["bgr", "rgb"])
def test_depth_is_rendered(tmp_path: Path, colours: str) -> None:
    write_depth(tmp_path, "bag01_indoor", 3, absent=(1,))
    (sequence,) = open_layout(tmp_path, DEPTHTRACK, depth_colours=colours)  # type: ignore[arg-type]
    assert (sequence.kind, len(sequence)) == ("depth", 3)
    pair = sequence.read(2)
    np.testing.assert_array_equal(pair.aux, colour_depth(depth_map(2), colours=colours))  # type: ignore[arg-type]
    assert pair.rgb is not None
    assert pair.notes == ()


def test_a_depth_frame_of_zeros_is_missing_and_says_so(tmp_path: Path) -> None:
    write_depth(tmp_path, "a", 2, depths={1: np.zeros_like(depth_map(0))})
    (sequence,) = open_layout(tmp_path, RGBD1K)
    pair = sequence.read(1)
    assert pair.available == ("rgb",)
    (note,) = pair.notes
    assert note.startswith("aux: ")
    assert note.endswith("00000002.png: nothing was measured (all zero), the frame counts as missing")


def test_wrong_depth_is_refused_with_its_file(tmp_path: Path) -> None:
    write_depth(tmp_path, "a", 2, depths={1: (depth_map(1) >> 8).astype(np.uint8)})
    (sequence,) = open_layout(tmp_path, RGBD1K)
    with pytest.raises(InputError, match=r"depth.00000002\.png: pixels have 8 bits"):
        sequence.read(1)


def test_what_serves_in_training(tmp_path: Path) -> None:
    """docs/specs/patrack.md, section 3: DepthTrack over 10 px and no nan, VisEvent labelled present and over 5 px."""
    text = "10,10,11,11\n10,10,10,30\nnan,nan,nan,nan\n10,10,30,0\n"
    (write_depth(tmp_path / "d", "a", 4) / "groundtruth.txt").write_text(text)
    assert open_layout(tmp_path / "d", DEPTHTRACK)[0].visible.tolist() == [True, False, False, False]
    assert open_layout(tmp_path / "d", RGBD1K)[0].visible.tolist() == [True, True, False, False]
    folder = write_event(tmp_path / "e", "b", 4, absent=(1,))
    (folder / "groundtruth.txt").write_text("1,1,6,6\n1,1,6,6\n1,1,5,6\n1,1,6,6\n")
    assert open_layout(tmp_path / "e", VISEVENT)[0].visible.tolist() == [True, False, False, True]
    (folder / "absent_label.txt").unlink()
    assert open_layout(tmp_path / "e", VISEVENT)[0].visible.tolist() == [True, True, False, True]
    (folder / "absent_label.txt").write_text("1\n0\n")
    with pytest.raises(InputError, match=r"absent_label\.txt: 2 labels for 4 boxes"):
        open_layout(tmp_path / "e", VISEVENT)


def test_event_frames_go_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_event(tmp_path, "dove", 5)
    (folder / "event_imgs" / "frame0001.bmp").unlink()
    (sequence,) = open_layout(tmp_path, VISEVENT)
    assert "1 sequences have auxiliary frames that are not one for each visible frame" in caplog.text
    assert "dove (vis_imgs and event_imgs 5 and 4, 1 lack)" in caplog.text
    assert len(sequence) == 5
    assert [sequence.read(i).available for i in range(3)] == [("rgb", "aux"), ("rgb",), ("rgb", "aux")]
    np.testing.assert_array_equal(sequence.read(3).aux, event_picture(3)[:, :, ::-1])


def test_more_event_frames_than_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_event(tmp_path, "dove", 3)
    save(folder / "event_imgs" / "frame0000_extra.bmp", event_picture(0))
    (sequence,) = open_layout(tmp_path, VISEVENT)
    assert "vis_imgs and event_imgs 3 and 4, 0 lack" in caplog.text
    np.testing.assert_array_equal(sequence.read(1).aux, event_picture(1)[:, :, ::-1])


def test_names_that_have_nothing_in_common(tmp_path: Path) -> None:
    folder = write_event(tmp_path, "dove", 2)
    for path in sorted((folder / "event_imgs").iterdir()):
        path.rename(path.with_name(f"event_{path.name}"))
    with pytest.raises(InputError, match="no image has the name of one in vis_imgs/"):
        open_layout(tmp_path, VISEVENT)


def test_depth_and_colour_differ_in_their_suffix_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_depth(tmp_path, "a", 3, depths={0: None})
    (sequence,) = open_layout(tmp_path, DEPTHTRACK)
    assert [sequence.read(i).available for i in range(2)] == [("rgb",), ("rgb", "aux")]
    assert "color and depth 3 and 2, 1 lack" in caplog.text


def test_training_folders(tmp_path: Path) -> None:
    write_depth(tmp_path / "dt" / "Train", "toy07_indoor", 2)
    assert len(open_layout(tmp_path / "dt" / "Train", DEPTHTRACK)) == 1
    assert len(open_layout(tmp_path / "dt", DEPTHTRACK, names=["toy07_indoor"])) == 1
    write_depth(tmp_path / "k" / "Adapter", "adapter1", 2, boxes="groundtruth_rect.txt")
    write_depth(tmp_path / "k" / "Bag", "bag1", 2, boxes="groundtruth_rect.txt")
    assert [each.name for each in open_layout(tmp_path / "k", RGBD1K_TRAIN)] == ["adapter1", "bag1"]
    assert [each.name for each in open_layout(tmp_path / "k", RGBD1K_TRAIN, names=["Bag/bag1"])] == ["bag1"]


@pytest.mark.parametrize("kind", ["depth", "event"])
def test_a_folder_of_ones_own(tmp_path: Path, kind: str) -> None:
    folder = write_sequence(tmp_path, "mine", 2)
    shutil.rmtree(folder / "infrared")
    (folder / kind).mkdir()
    for i in range(2):
        save(folder / kind / f"{i}.png", depth_map(i) if kind == "depth" else event_picture(i))
    which = showing(benchmark("folder"), kind)  # type: ignore[arg-type]
    assert which.modality == kind
    (sequence,) = open_benchmark(which, tmp_path)
    assert sequence.read(1).available == ("rgb", "aux")
    assert sequence.kind == kind


def test_what_a_benchmark_shows() -> None:
    assert [benchmark(name).modality for name in ("gtot", "depthtrack", "rgbd1k", "visevent")] == [
        *("thermal", "depth", "depth", "event")
    ]
    assert showing(benchmark("depthtrack"), "depth") is benchmark("depthtrack")
    assert showing(benchmark("folder"), None) is benchmark("folder")
    with pytest.raises(InputError, match="DepthTrack is RGB and depth, not event; leave --modality out"):
        showing(benchmark("depthtrack"), "event")


def test_the_fingerprint_knows_how_frames_are_read(tmp_path: Path) -> None:
    write_sequence(tmp_path, "a", 2)
    (thermal,) = open_layout(tmp_path, own_layout("thermal"))
    marks = {
        fingerprint([thermal]),
        fingerprint([replace(thermal, kind="event")]),
        fingerprint([replace(thermal, kind="depth")]),
        fingerprint([replace(thermal, kind="depth", depth_colours="rgb")]),
        fingerprint([replace(thermal, kind="event", labelled=np.array([True, False]))]),
    }
    assert len(marks) == 5


def found(check) -> dict[str, tuple[bool, str]]:  # type: ignore[no-untyped-def]
    return {finding.kind: (finding.wrong, finding.detail) for finding in check.findings}


def test_check_of_depth(tmp_path: Path) -> None:
    holes = np.where(np.arange(96) < 60, 0, depth_map(0)).astype(np.uint16)
    write_depth(tmp_path, "bag01_indoor", 5, depths={1: np.zeros_like(holes)})
    check = check_benchmark(benchmark("depthtrack"), tmp_path, names=["bag01_indoor"])
    assert check.clean
    assert found(check)["depth"] == (False, "1 of 5 in depth/ are all zero and count as missing: 00000002.png")
    save(tmp_path / "bag01_indoor" / "depth" / "00000002.png", holes)
    assert "1 of 5 in depth/ render to one colour: 00000002.png" in str(
        found(check_benchmark(benchmark("depthtrack"), tmp_path, names=["bag01_indoor"]))
    )
    save(tmp_path / "bag01_indoor" / "depth" / "00000002.png", (holes >> 8).astype(np.uint8))
    wrong, detail = found(check_benchmark(benchmark("depthtrack"), tmp_path, names=["bag01_indoor"]))["pixels"]
    assert wrong
    assert detail.startswith("1 of 5 in depth/ cannot be used: ")
    assert "pixels have 8 bits" in detail


def test_check_of_events_counts_both_folders(tmp_path: Path) -> None:
    name = "00141_tank_outdoor2"
    write_event(tmp_path, name, 5, left_out=2)
    check = check_benchmark(benchmark("visevent"), tmp_path, names=[name])
    wrong, detail = found(check)["counts"]
    assert wrong
    assert "vis_imgs/ 5 images, event_imgs/ 3 images" in detail
    assert box(0)[2] > 5


def test_check_begins_where_the_labels_do(tmp_path: Path) -> None:
    name = "00141_tank_outdoor2"
    folder = write_event(tmp_path, name, 5, absent=(0,))
    boxes = (folder / "groundtruth.txt").read_text().splitlines()
    (folder / "groundtruth.txt").write_text("\n".join(["0,0,0,0", *boxes[1:]]))
    check = check_benchmark(benchmark("visevent"), tmp_path, names=[name])
    assert check.clean, "the first box is not the one that a tracker starts with"
    assert found(check)["absent"] == (False, "1 of 5 boxes have no size")
    (folder / "absent_label.txt").write_text("1\n" * 5)
    assert (
        "cannot start a tracker: 0,0,0,0"
        in found(check_benchmark(benchmark("visevent"), tmp_path, names=[name]))["boxes"][1]
    )
    (folder / "absent_label.txt").write_text("1\n2\n" + "1\n" * 3)
    wrong, detail = found(check_benchmark(benchmark("visevent"), tmp_path, names=[name]))["labels"]
    assert wrong
    assert detail.endswith("row 2: got 2, a label is 0 (absent) or 1")
