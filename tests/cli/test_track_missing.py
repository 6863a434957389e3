"""`duotrack track` under loss: `--missing`, `--mask`, `--detect-missing`, recorded and live."""

import json
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import duotrack.tracking.load
from duotrack.cli import app
from duotrack.tracking.missing import DEFAULT_POLICY, missing_policy
from duotrack.tracking.state import StateRule, state_rule
from duotrack.tracking.tracker import Tracker
from scripted import GEOMETRY, ScriptedNet

FRAMES = 24
BOX = "30,20,20,20"


SCENE = cv2.normalize(
    cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (80, 400, 3), np.uint8), (0, 0), 6),
    None,
    90,
    235,
    cv2.NORM_MINMAX,
)


def picture(i: int, side: str) -> np.ndarray:
    """A scene that moves by three pixels a frame, mirrored on one side."""
    view = SCENE[:, 3 * i : 3 * i + 96]
    return np.ascontiguousarray(view if side == "rgb" else view[:, ::-1])


def write(folder: Path, side: str, special: dict[int, np.ndarray | None]) -> Path:
    """Numbered frames; `special` replaces some of them, None leaves the file out."""
    folder.mkdir(parents=True)
    for i in range(FRAMES):
        image = special.get(i, picture(i, side))
        if image is not None:
            assert cv2.imwrite(str(folder / f"{i:03d}.png"), image)
    return folder


@pytest.fixture
def net(monkeypatch) -> ScriptedNet:
    scripted = ScriptedNet()

    def load(name, *, missing, **options):
        rule = state_rule(**{key: value for key, value in options.items() if hasattr(StateRule, key)})
        return Tracker(scripted, geometry=GEOMETRY, missing=missing_policy(missing), rule=rule)

    monkeypatch.setattr(duotrack.tracking.load, "load_tracker", load)
    return scripted


def run(tmp_path: Path, *arguments: object, rgb=None, aux=None):
    sources = [
        "--rgb", write(tmp_path / "rgb", "rgb", rgb or {}), "--aux", write(tmp_path / "aux", "aux", aux or {}),
        "--box", BOX, "--out", tmp_path / "out", "--device", "cpu",
    ]  # fmt: skip
    return CliRunner().invoke(app, ["track", *map(str, [*sources, *arguments])])


def records(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "out" / "track.jsonl").read_text().splitlines()]


def refused(result, words: str) -> None:
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert re.search(words, result.stderr), result.stderr


BLACK = np.zeros((80, 96, 3), np.uint8)


def test_dead_frames_count_as_missing_when_asked(net, tmp_path, caplog):
    frozen = {i: picture(5, "aux") for i in range(6, 18)}
    result = run(
        tmp_path, "--detect-missing", "--json", rgb={20: BLACK, 21: BLACK, 22: None}, aux=frozen | {21: BLACK + 255}
    )
    assert result.exit_code == 0, result.stderr
    seen = records(tmp_path)
    both = ["rgb", "aux"]
    expected = [
        ["rgb"] if 13 <= i < 18 else ["aux"] if i in (20, 22) else [] if i == 21 else both for i in range(FRAMES)
    ]
    assert [record["available"] for record in seen] == expected
    assert seen[15]["notes"] == ["aux: frozen, counts as missing"]
    assert seen[21]["notes"] == ["rgb: black, counts as missing", "aux: saturated, counts as missing"]
    assert "no image numbered 22" in seen[22]["notes"][0]
    assert (seen[21]["score"], seen[21]["box"]) == (0, seen[20]["box"])
    assert [seen[i]["state"] for i in (20, 21, 22, 23)] == ["tracking", "uncertain", "uncertain", "uncertain"]
    assert json.loads(result.stdout)["lacking"] == {"rgb": 3, "aux": 6}
    assert "aux: frozen, counts as missing from frame 13" in caplog.text
    assert "rgb: back at frame 23" in caplog.text
    reader = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    reader.set(cv2.CAP_PROP_POS_FRAMES, 15)
    panel = reader.read()[1]
    assert panel[:, panel.shape[1] // 2 :].mean() < 60  # dark: no signal
    assert panel[:, : panel.shape[1] // 2].mean() > 100


def test_nothing_is_detected_unless_asked(net, tmp_path):
    result = run(tmp_path, "--no-overlay", rgb={3: BLACK}, aux={i: picture(5, "aux") for i in range(6, 18)})
    assert result.exit_code == 0, result.stderr
    assert all(record["available"] == ["rgb", "aux"] for record in records(tmp_path))
    assert result.stderr == ""


def test_a_black_first_frame_gives_no_template(net, tmp_path):
    assert run(tmp_path, "--detect-missing", "--no-overlay", aux={0: BLACK}).exit_code == 0
    assert records(tmp_path)[0]["available"] == ["rgb"]
    assert net.calls[0]["template"][1] is None
    both = run(tmp_path / "both", "--detect-missing", aux={0: BLACK}, rgb={0: BLACK})
    refused_line = both.stderr.strip().splitlines()[-1]
    assert both.exit_code == 2
    assert re.search("frame 0 has no image.*rgb: black.*--start", refused_line)


MASK = np.array([[i != 0 and i % 3 != 1, i < 10 or i >= 16] for i in range(FRAMES)])


@pytest.mark.parametrize("form", ["text", "json", "one of two"])
def test_a_mask_takes_images_out(net, tmp_path, form):
    path = tmp_path / "mask"
    value = {"frames": FRAMES, "data": MASK.astype(float).tolist()}
    more: tuple[str, ...] = ()
    if form == "text":
        path.write_text("".join(f"{int(a)},{int(b)}\n" for a, b in MASK))
    elif form == "json":
        path.write_text(json.dumps({"one": value}))
    else:
        path.write_text(json.dumps({"one": value, "two": {"frames": 1, "data": [[1, 1]]}}))
        more = ("--mask-sequence", "one")
    result = run(tmp_path, "--mask", path, "--no-overlay", "--json", *more)
    assert result.exit_code == 0, result.stderr
    seen = records(tmp_path)
    assert seen[0]["available"] == ["rgb", "aux"]  # whatever the first row says
    for record, row in zip(seen[1:], MASK[1:], strict=True):
        assert record["available"] == [side for side, there in zip(("rgb", "aux"), row, strict=True) if there]
        assert record.get("notes", []) == [
            f"{s}: masked" for s, there in zip(("rgb", "aux"), row, strict=True) if not there
        ]
    blind = [record for record in seen if not record["available"]]
    assert len(blind) == 2
    assert all(record["score"] == 0 and record["state"] != "tracking" for record in blind)
    assert len(net.calls) == FRAMES - 1 - len(blind)


def test_a_mask_from_a_later_frame_on(net, tmp_path):
    (tmp_path / "mask").write_text("".join(f"{int(a)},{int(b)}\n" for a, b in MASK))
    assert run(tmp_path, "--mask", tmp_path / "mask", "--no-overlay", "--start", 13, "--max-frames", 4).exit_code == 0
    seen = records(tmp_path)
    assert [record["frame"] for record in seen] == [13, 14, 15, 16]
    assert [record["available"] for record in seen] == [["rgb", "aux"], ["rgb"], ["rgb"], ["aux"]]


BAD = [
    (["--mask", "nowhere.json"], "nowhere.json: no such mask file"),
    (["--mask-sequence", "x"], "--mask FILE"),
    (["--mask", "short.txt"], r"short\.txt: 1 rows, and the source has 24 frames"),
    (["--mask", "bad.txt"], r"bad\.txt, frame 0: got 1, 3"),
    (["--mask", "short.txt", "--mask-sequence", "x"], "leave out --mask-sequence"),
    (["--mask", "masks.json"], r"masks\.json: sequence 'car': 1 rows, and the source has 24 frames"),
    (["--missing", "zeroes"], "did you mean 'zeros'"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_masks_and_policies(net, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("1,1\n")
    Path("masks.json").write_text('{"car": {"frames": 1, "data": [[1, 1]]}}')
    Path("bad.txt").write_text("1,3\n" * FRAMES)
    refused(run(tmp_path, *options), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("policy", ["model", "zeros", "copy", "hold-frame", "hold-box", None])
def test_the_policy_arrives(net, tmp_path, policy):
    (tmp_path / "mask").write_text("1,1\n" * 10 + "1,0\n" * (FRAMES - 10))
    options = [] if policy is None else ["--missing", policy]
    result = run(tmp_path, "--mask", tmp_path / "mask", "--no-overlay", *options)
    assert result.exit_code == 0, result.stderr
    assert [record["available"] for record in records(tmp_path)[10:]] == [["rgb"]] * (FRAMES - 10)
    policy = policy or DEFAULT_POLICY
    if policy == "hold-box":
        assert len(net.calls) == 9
    else:
        shown = net.calls[-1]["search"]
        assert (shown[1] is None) == (policy == "model")
        assert policy != "copy" or bool((shown[0] == shown[1]).all())


def test_detection_on_live_streams(net, tmp_path, monkeypatch):
    """Two live streams, one of which freezes: the frames go the same road."""
    import duotrack.video.live as live

    class Camera:
        """Gives a frame when it is let."""

        def __init__(self, address: int) -> None:
            self.side, self.count = ("rgb", "aux")[address], 0

        def get(self, key: int) -> float:
            return {cv2.CAP_PROP_FRAME_WIDTH: 96.0, cv2.CAP_PROP_FRAME_HEIGHT: 80.0}.get(key, 0.0)

        def read(self):
            if self.count == FRAMES:
                return False, None
            if self.count:
                turn[self.side].acquire()
            i = self.count
            self.count += 1
            return True, picture(5 if self.side == "aux" and i > 5 else i, self.side)

        def release(self) -> None:
            pass

    turn = {"rgb": threading.Semaphore(0), "aux": threading.Semaphore(0)}
    monkeypatch.setattr(live, "capture", lambda address, *rest: Camera(int(address)))
    monkeypatch.chdir(tmp_path)

    from duotrack.cli.following import follow
    from duotrack.video import Live, open_sinks, open_source
    from duotrack.video.dead import without_dead

    tracker = Tracker(net, geometry=GEOMETRY)

    def next_pair(*_: object) -> None:
        for semaphore in turn.values():
            semaphore.release()

    options = Live(attempts=0, delay=0.01)
    with open_source("0", "1", live=options, tolerance=30) as source:
        sinks = open_sinks(tmp_path / "out", source, overlay=False)
        summary = follow(source, tracker, [[30, 20, 20, 20]], sinks, sift=without_dead, watch=next_pair)
    assert summary.frames == FRAMES
    assert summary.lacking == {"rgb": 0, "aux": FRAMES - 13}
    assert records(tmp_path)[-1]["notes"] == ["aux: frozen, counts as missing"]


def test_a_mask_is_not_for_live_streams(net, tmp_path, monkeypatch):
    import duotrack.video.source as sources

    class Stream(sources.LiveStream):
        def __init__(self, address, *, name, **rest) -> None:
            self.name, self.kind, self.size, self.fps = name, "camera", (96, 80), None

        def close(self) -> None:
            pass

    monkeypatch.setattr(sources, "LiveStream", Stream)
    monkeypatch.chdir(tmp_path)
    Path("mask.txt").write_text("1,1\n")
    result = CliRunner().invoke(
        app, ["track", "--rgb", "0", "--box", BOX, "--out", str(tmp_path / "out"), "--mask", "mask.txt"]
    )
    refused(result, "live stream")
