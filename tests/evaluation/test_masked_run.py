"""Running a benchmark under a mask: one by one, in lockstep and in worker processes; kept apart from other runs."""

import json

import numpy as np
import pytest
import torch

from duotrack.datasets.layouts import open_lasher
from duotrack.datasets.masked import Masked
from duotrack.errors import InputError
from duotrack.evaluation.lockstep import Tracked, track_sequences
from duotrack.evaluation.run import Setup, run_benchmark
from duotrack.models.zoo import MODELS
from duotrack.tracking.load import load_tracker
from duotrack.tracking.tracker import Tracker
from duotrack.weights.safetensor import save_weights
from scripted import GEOMETRY, ScriptedNet
from sequences import write_sequence

ROWS = [[0, 1], [1, 1], [0, 1], [0, 0], [1, 0], [1, 1]]
MASKS = {name: np.array(ROWS[:frames], bool) for name, frames in {"alpha": 6, "beta": 4, "gamma": 5}.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name, mask in MASKS.items():
        write_sequence(root, name, len(mask))
    return root


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, MODELS["ckd-tiny"].build(), model="ckd-tiny", elimination="none", dtype="fp16")
    return Setup(model="ckd-tiny", weights=path, device="cpu", workers=1)


def masked(data, masks=MASKS):
    return Masked(data, masks, None).sequences(open_lasher(data))


def run(data, folder, setup, masks=MASKS, mask="one", **options):
    sequences = open_lasher(data) if masks is None else masked(data, masks)
    return run_benchmark(sequences, folder, setup, dataset="folder-miss", mask=mask, **options)


@pytest.fixture(scope="module")
def reference(data, setup, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    run(data, folder, setup)
    return folder


def boxes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.stem in MASKS}


@pytest.mark.parametrize("batch", [1, 3])
def test_the_network_is_asked_with_what_the_mask_leaves(data, batch):
    net = ScriptedNet()
    events = list(track_sequences(Tracker(net, geometry=GEOMETRY), masked(data), batch=batch))
    tracked = {event.name: event for event in events if isinstance(event, Tracked)}
    both, rgb, aux = ("rgb", "aux"), ("rgb",), ("aux",)
    asked = {"alpha": [both, aux, rgb, both], "beta": [both, aux], "gamma": [both, aux, rgb]}  # row 0 is not used
    assert sorted(call["available"] for call in net.calls) == sorted(each for name in asked for each in asked[name])
    for name, mask in MASKS.items():
        assert len(tracked[name].boxes) == len(mask)
        np.testing.assert_array_equal(tracked[name].boxes[3], tracked[name].boxes[2])  # neither: held
        assert tracked[name].scores[3] == 0
        assert tracked[name].notes == ()


def test_files_are_those_of_a_tracker_that_gets_none(reference, data, setup):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for sequence in open_lasher(data):
        tracker = load_tracker("ckd-tiny", weights=setup.weights, device="cpu", redetect=False)
        first = sequence.read(0)
        expected = [tracker.init(first.rgb, first.aux, sequence.boxes[0]).box]
        for index in range(1, len(sequence)):
            pair, (rgb, aux) = sequence.read(index), ROWS[index]
            expected.append(tracker.update(pair.rgb if rgb else None, pair.aux if aux else None).box)
        np.testing.assert_array_equal(np.loadtxt(reference / f"{sequence.name}.txt", delimiter=","), expected)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("change", [{"batch": 3}, {"workers": 2}], ids=["lockstep", "pool"])
def test_lockstep_and_pool_give_the_same_bytes(change, reference, data, setup, tmp_path):
    run(data, tmp_path, Setup(**{**vars(setup), **change}))
    assert boxes_of(tmp_path) == boxes_of(reference)
    assert len(boxes_of(tmp_path)) == 3


def test_the_record_knows_the_mask_and_the_policy(reference):
    record = json.loads((reference / "run.json").read_text())
    assert (record["mask"], record["missing"], record["dataset"]) == ("one", "model", "folder-miss")


def test_the_same_run_goes_on_and_others_are_refused(data, setup, tmp_path):
    assert run(data, tmp_path, setup).tracked == 3
    assert run(data, tmp_path, setup).done == 3
    with pytest.raises(InputError, match="mask one there, two now"):
        run(data, tmp_path, setup, mask="two")
    with pytest.raises(InputError, match="mask one there, none now"):
        run(data, tmp_path, setup, masks=None, mask="none")
    with pytest.raises(InputError, match="missing model there, zeros now"):
        run(data, tmp_path, Setup(**{**vars(setup), "missing": "zeros"}))
    with pytest.raises(InputError, match="redetect False there, True now"):
        run(data, tmp_path, Setup(**{**vars(setup), "redetect": True}))
    other = {**MASKS, "beta": MASKS["beta"][:, ::-1]}
    with pytest.raises(InputError, match=r"1 sequences have changed since \(beta"):  # even under one name of the mask
        run(data, tmp_path, setup, masks=other)


def test_a_record_from_before_masks_were_known_is_of_a_complete_run(data, setup, tmp_path):
    run(data, tmp_path, setup, masks=None, mask="none")
    record = json.loads((tmp_path / "run.json").read_text())
    del record["mask"], record["missing"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert run(data, tmp_path, setup, masks=None, mask="none").done == 3
    with pytest.raises(InputError, match="mask none there, one now"):
        run(data, tmp_path, setup)


def test_a_record_from_before_crops_were_known_is_of_the_published_ones(data, setup, tmp_path):
    run(data, tmp_path, setup)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record.pop("crops") == "1.7 3.4"
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"crops 2 4 there, 1\.7 3\.4 now"):
        run(data, tmp_path, setup)


def test_the_policy_reaches_the_tracker(reference, data, setup, tmp_path):
    run(data, tmp_path, Setup(**{**vars(setup), "missing": "hold-box"}))
    rows = np.loadtxt(tmp_path / "alpha.txt", delimiter=",")
    assert (rows[2:5] == rows[1]).all()
    assert (np.loadtxt(reference / "alpha.txt", delimiter=",")[2] != rows[2]).any()
