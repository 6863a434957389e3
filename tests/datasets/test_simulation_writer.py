"""Written sequences: LasHeR's layout, exactly what was rendered, whole or not at all."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.masked import open_masked
from duotrack.datasets.simulation import writer
from duotrack.datasets.simulation.assets import Pool
from duotrack.datasets.simulation.attributes import MEANINGS
from duotrack.datasets.simulation.settings import Scenes
from duotrack.datasets.simulation.writer import Order, draw_take, frames_of, write_sequences
from duotrack.errors import InputError

SCENES = Scenes(width=96, height=80)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_what_is_read_back_is_what_was_rendered(drawn: Pool, tmp_path: Path) -> None:
    order = Order(sequences=3, frames=12, seed=5, format="png")
    settings = SCENES.model_copy(update={"leaves": 1.0, "occlusion": 1.0, "freezes": 1.0})
    found = write_sequences(tmp_path, order, drawn, settings)
    sequences = open_lasher(tmp_path)
    assert [sequence.name for sequence in sequences] == list(found)
    frozen = 0
    for index, sequence in enumerate(sequences):
        take = draw_take(index, order, drawn, settings)
        record = json.loads((tmp_path / sequence.name / writer.RECORD).read_text())
        assert len(sequence) == 12
        assert record["attributes"] == sorted(found[sequence.name]) == sorted(take.attributes)
        for number in range(12):
            pair, box = sequence.read(number), take.truths[number].box
            np.testing.assert_allclose(sequence.boxes[number], box, atol=0.0051)
            assert sequence.visible[number] == take.truths[number].present
            for image, expected in zip((pair.rgb, pair.aux), frames_of(take, index, number, 5), strict=True):
                assert (image == expected).all()
        assert sequence.visible[0]
        frozen += sum(moments != [number, number] for number, moments in enumerate(record["moments"]))
    assert frozen > 0


def test_the_files_depend_on_the_seed_alone(drawn: Pool, tmp_path: Path) -> None:
    for name, seed, workers in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        write_sequences(tmp_path / name, Order(sequences=3, frames=4, seed=seed), drawn, SCENES, workers=workers)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    a, c = (list(files(tmp_path / name / f"sim{seed}_00000").values()) for name, seed in (("a", 1), ("c", 2)))
    assert a != c


def test_a_run_goes_on_where_it_stopped_and_refuses_other_settings(
    drawn: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, seen = Order(sequences=2, frames=3), []
    real, calls = writer.frames_of, []

    def fails(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "frames_of", fails)
    with pytest.raises(OSError, match="No space"):
        write_sequences(tmp_path, order, drawn, SCENES)
    assert [sequence.name for sequence in open_lasher(tmp_path)] == ["sim0_00000"]  # whole, or not there
    monkeypatch.undo()
    write_sequences(tmp_path, order, drawn, SCENES, watch=lambda name, made: seen.append((name, made)))
    assert seen == [("sim0_00000", False), ("sim0_00001", True)]
    assert len(open_lasher(tmp_path)) == 2
    with pytest.raises(InputError, match="was not made so"):
        write_sequences(tmp_path, order, drawn, SCENES.model_copy(update={"night": 1.0}))


@pytest.mark.parametrize(
    "wanted", [{"TC"}, {"OV"}, {"LI", "SA"}, {"FM", "CM"}, {"TO"}, {"SV", "LR"}, {"ARC"}, {"NO"}, {"FL"}]
)
def test_wanted_attributes_are_there(drawn: Pool, wanted: set[str]) -> None:
    for index in range(2):
        take = draw_take(index, Order(sequences=2, frames=60, wanted=frozenset(wanted)), drawn, SCENES)
        assert wanted <= take.attributes
        contrast = [take.scene.contrast(time) for time in range(60)]
        inside = min(each.inside for each in take.truths)
        hidden = [each for each in take.truths if not each.present and each.inside > 0.3]
        assert ("OV" in take.attributes) == (inside < 0.5)
        assert "TO" not in wanted or hidden
        full = np.array([take.scene.full_box(take.scene.actors[0], time) for time in range(60)])
        areas = full[:, 2] * full[:, 3]
        ratios = areas / areas[0]
        assert ("SV" in take.attributes) == (ratios.max() > 4 or ratios.min() < 0.25)
        assert "LR" not in wanted or (areas < 400).mean() > 0.1
        assert "LI" not in wanted or take.scene.night
        assert "NO" not in wanted or all(each.shown >= 0.9 * each.inside for each in take.truths)
        assert "TC" not in wanted or min(contrast) * abs(take.scene.excess) * take.scene.sensors.heat_gain < 12


def test_dropouts_are_black_and_have_masks(drawn: Pool, tmp_path: Path) -> None:
    found = write_sequences(tmp_path, Order(sequences=4, frames=20, dropouts=0.3), drawn, SCENES)
    assert all("FL" in attributes for attributes in found.values())
    whole = open_lasher(tmp_path)
    masked = open_masked(tmp_path / writer.MASKS).sequences(whole)
    for plain, sequence in zip(whole, masked, strict=True):
        assert sequence.mask is not None
        assert (~sequence.mask).any(axis=1).sum() == 6
        assert sequence.mask[0].all()
        for number in range(20):
            pair, black = sequence.read(number), plain.read(number)
            for there, image, shown in zip(
                sequence.mask[number], (pair.rgb, pair.aux), (black.rgb, black.aux), strict=True
            ):
                assert (image is not None) == there
                assert shown is not None
                assert there or shown.max() == 0


def test_the_table_of_attributes(drawn: Pool, tmp_path: Path) -> None:
    found = write_sequences(tmp_path, Order(sequences=3, frames=5), drawn, SCENES)
    table = json.loads((tmp_path / writer.TABLE).read_text())
    assert table["meanings"] == MEANINGS
    assert {
        name: frozenset(key for key, names in table["sequences"].items() if name in names) for name in found
    } == found


def test_the_tables_hold_the_sequences_of_every_run(
    drawn: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = write_sequences(tmp_path, Order(sequences=2, frames=8, dropouts=0.4), drawn, SCENES)
    (tmp_path / ".sim0_00007-partial").mkdir()
    (tmp_path / ".sim0_00007-partial" / writer.RECORD).write_text("{}")
    for name, content in (("torn", "{"), ("other", "[1]"), ("odd", '{"attributes": [], "available": [[1], [1, 0]]}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / writer.RECORD).write_text(content)
    found |= write_sequences(tmp_path, Order(sequences=1, frames=6, seed=9), drawn, SCENES)
    again = write_sequences(tmp_path, Order(sequences=1, frames=8, dropouts=0.4), drawn, SCENES)
    assert set(again) < set(found) == {"sim0_00000", "sim0_00001", "sim9_00000"}
    table = json.loads((tmp_path / writer.TABLE).read_text())["sequences"]
    assert {name: frozenset(key for key, names in table.items() if name in names) for name in found} == found
    sequences = open_lasher(tmp_path, names=sorted(found))
    masked = open_masked(tmp_path / writer.MASKS).sequences(sequences)
    assert [int((~sequence.mask).any(axis=1).sum()) for sequence in masked] == [3, 3, 0]
    for name in ("torn", "other", "odd"):
        assert f"{name}/{writer.RECORD} cannot be read" in caplog.text
    assert "partial" not in caplog.text


def test_jpeg_quality_counts(drawn: Pool, tmp_path: Path) -> None:
    sizes = []
    for quality in (30, 95):
        write_sequences(tmp_path / str(quality), Order(sequences=1, frames=2, quality=quality), drawn, SCENES)
        (path,) = (tmp_path / str(quality)).rglob("visible/000000.jpg")
        assert cv2.imread(str(path)).shape == (80, 96, 3)
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sequences": 0}, "at least 1"),
        ({"frames": 1}, "of 2 frames"),
        ({"dropouts": 1.0}, "dropouts lie"),
        ({"quality": 0}, "quality in 1 to 100"),
        ({"seed": -1}, "not negative"),
        ({"wanted": frozenset({"TX"})}, "'TX' is not known"),
        ({"wanted": frozenset({"NO", "TO"})}, "NO and TO"),
        ({"wanted": frozenset({"PO", "SA", "NO"})}, "NO and PO"),
        ({"wanted": frozenset({"LI", "TC"})}, "LI and TC"),
        ({"wanted": frozenset({"LI", "HI"})}, "HI and LI"),
        ({"wanted": frozenset({"AIV"})}, "5 frames have no attribute AIV"),
    ],
)
def test_bad_orders(changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Order(**{"sequences": 1, "frames": 5, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        ("LI", {"night": 0}),
        ("HI", {"light": 0}),
        ("AIV", {"light": 0}),
        ("MB", {"blur": 0}),
        ("MB", {"camera": 0}),
        ("SA", {"distractors": 0}),
        ("CM", {"camera": 0}),
        ("FL", {"freezes": 0}),
    ],
)
def test_a_share_of_0_without_which_there_is_no_such_attribute(drawn: Pool, wanted: str, changes: dict) -> None:
    order = Order(sequences=1, frames=40, wanted=frozenset({wanted}))
    settings = Scenes(width=96, height=80, **changes)
    (key,) = changes
    with pytest.raises(InputError, match=f"{wanted} where {key} is 0"):
        draw_take(0, order, drawn, settings)
    lossy = Order(sequences=1, frames=40, wanted=frozenset({"FL"}), dropouts=0.5)
    assert "FL" in draw_take(0, lossy, drawn, Scenes(width=96, height=80, freezes=0)).attributes


def test_what_is_given_goes_before_what_attributes_would_have(drawn: Pool, tmp_path: Path) -> None:
    order = Order(sequences=1, frames=40, wanted=frozenset({"FL", "CM"}))
    write_sequences(tmp_path, order, drawn, Scenes(width=96, height=80, freezes=0.9))
    scenes = json.loads((tmp_path / "sim0_00000" / writer.RECORD).read_text())["made"]["scenes"]
    assert (scenes["freezes"], scenes["camera"]) == (0.9, 1)
    assert (Scenes().freezes, Scenes().camera) == (0.03, 0.7)


def test_impossible_orders_end(drawn: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "TRIES", 4)
    settings = Scenes(width=96, height=80, smallest=60, largest=1)
    words = (
        "none of 4 scenes of 5 frames has the attributes LR; ask for less, or for more frames, or leave out largest=1"
    )
    with pytest.raises(InputError, match=words):
        draw_take(0, Order(sequences=1, frames=5, wanted=frozenset({"LR"})), drawn, settings)
