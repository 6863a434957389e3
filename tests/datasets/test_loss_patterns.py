"""Groups and subgroups: the published files, and what is refused."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from duotrack.datasets import patterns
from duotrack.datasets.benchmarks import benchmark
from duotrack.datasets.patterns import (
    PATTERNS,
    Loss,
    check_shares,
    missing_frames,
    read_losses,
    write_groups,
    write_subgroups,
)
from duotrack.errors import InputError

PUBLISHED = {"rgbt234": "RGBT234-Miss", "lasher245": "LasHeR245-Miss", "vtuav176": "VTUAV176-Miss"}


def entry(name="car", frames=10, ratio=0.3):
    return [name, {"frames": frames, "modalities": []}, *([] if ratio is None else [ratio])]


def group(*entries, function="swap_missing"):
    return {"missing_function": function, "sequences": list(entries)}


@pytest.mark.parametrize("tag", PUBLISHED)
def test_published_files_are_read_and_written_byte_for_byte(shared_data, tmp_path, tag):
    folder = shared_data / "miss" / PUBLISHED[tag]
    read = {}
    for kind, write in (("groups", write_groups), ("subgroups", write_subgroups)):
        path = folder / f"{kind}_data_{tag}.json.gz"
        read[kind] = read_losses(path)
        write(tmp_path / "again.json", read[kind])
        assert (tmp_path / "again.json").read_bytes() == gzip.decompress(path.read_bytes())
    flat = [{name: (loss.frames, loss.pattern) for name, loss in losses.items()} for losses in read.values()]
    assert flat[0] == flat[1]
    assert set(flat[0]) == set(benchmark(f"{tag}-miss").paths)
    assert Counter(loss.pattern for loss in read["groups"].values()).keys() == set(PATTERNS)


def test_missing_frames_are_truncated_and_never_all():
    assert [missing_frames(*each) for each in ((414, 0.9), (10, 0.3), (1, 0.9), (3, 0.3), (7, np.nextafter(1, 0)))] == [
        372, 3, 0, 0, 6,
    ]  # fmt: skip


BAD = {
    "pattern": ({"G": group(entry(), function="sudden_missing")}, "pattern 'sudden' is not known"),
    "no pattern": ({"G": {"sequences": []}}, "pattern 'None'"),
    "twice": ({"G": group(entry(), entry())}, "'car' is there twice"),
    "twice over groups": (
        {"A": group(entry()), "B": group(entry(), function="random_missing")},
        "'car' is there twice",
    ),
    "ratio 1": ({"G": group(entry(ratio=1.0))}, "'car' has ratio 1.0"),
    "ratio nan": ({"G": group(entry(ratio=float("nan")))}, "'car' has ratio nan"),
    "ratio text": ({"G": group(entry(ratio="0.3"))}, "'car' has ratio 0.3"),
    "frames": ({"G": group(entry(frames=0))}, "'car' has 0 frames"),
    "frames text": ({"G": group(entry(frames="9"))}, "'car' has 9 frames"),
    "hostile frames": ({"G": group(entry(frames=10**12))}, "'car' has 1000000000000 frames"),
    "hostile total": (
        {"G": group(entry("a", 3_000_000), entry("b", 3_000_000))},
        "over 4000000 frames with sequence 'b'",
    ),
    "entry": ({"G": group(["car"])}, "is not"),
    "name": ({"G": group(entry(name=3))}, "is not"),
    "no list": ({"G": {"missing_function": "swap_missing"}}, "'G'|pattern|lists no"),
    "mixed": ({"G": group(entry(), entry("man", ratio=None))}, "some have none"),
    "nothing": ({"G": group()}, "holds no sequence"),
    "masks": ({"car": {"frames": 1, "data": [[1, 1]]}}, "lists no sequences"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused(tmp_path, kind):
    content, words = BAD[kind]
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        read_losses(tmp_path / "s.json")


def test_masks_that_do_not_lose_what_subgroups_say():
    mask = np.array([[1, 1], [1, 0], [0, 0], [1, 1]], bool)
    check_shares("m", {"car": mask}, {"car": Loss(4, "random", 0.6)})
    with pytest.raises(InputError, match=r"2 frames of sequence 'car' lack a modality, its ratio 0.9 says 3"):
        check_shares("m", {"car": mask}, {"car": Loss(4, "random", 0.9)})


def test_names_of_groups_are_the_published_ones_even_of_a_part(tmp_path):
    write_subgroups(tmp_path / "s.json", {"car": Loss(9, "swap", 0.5)})
    assert json.loads((tmp_path / "s.json").read_text()) == {
        "Group3_swap_missing": {"Group3_swap_missing_SubGroup1": group(entry(frames=9, ratio=0.5))}
    }
    assert patterns.PATTERNS[2] == "swap"
