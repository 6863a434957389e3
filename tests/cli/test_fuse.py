"""`duotrack fuse`: videos and pictures by every kind of expert, bad input, missing images, Ctrl-C."""

import itertools
import json
import re
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from duotrack.cli import app
from duotrack.fusion.cache import open_cache
from duotrack.fusion.rules import RULES
from duotrack.models.zoo import MODELS
from duotrack.weights.safetensor import save_weights

FRAMES, SIZE = 5, (48, 34)


def run(*arguments: object):
    return CliRunner().invoke(app, ["fuse", *map(str, arguments)])


def frame(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


def folder(path: Path, seed: int, *, missing: tuple[int, ...] = (), size: tuple[int, int] = SIZE) -> Path:
    path.mkdir()
    for index in range(FRAMES):
        file = path / f"{index:03d}.png"
        if index in missing:
            file.write_bytes(b"\x89PNG not an image")
        else:
            cv2.imwrite(str(file), frame(seed + index, size))
    return path


@pytest.fixture
def pair(tmp_path):
    """The options that name both sources."""
    return ["--rgb", folder(tmp_path / "rgb", 0), "--aux", folder(tmp_path / "aux", 100)]


def pictures(path: Path) -> list[np.ndarray]:
    return [cv2.imread(str(file)) for file in sorted(path.glob("fused_*.png"))]


@pytest.mark.parametrize("name", RULES)
def test_pictures_by_every_rule(pair, tmp_path, name):
    out = tmp_path / "out"
    result = run(*pair, "--expert", name, "--out", out)
    assert result.exit_code == 0, result.stderr
    made = pictures(out)
    assert len(made) == FRAMES
    assert {image.shape for image in made} == {(34, 48, 3)}
    assert f"out: {out}" in result.stdout
    if name == "average":
        grey = frame(100).astype(float).mean(2)
        rgb = frame(0)[..., ::-1].astype(float)
        luma = rgb @ [0.299, 0.587, 0.114]
        wanted = np.clip(rgb + ((grey - luma) / 2)[..., None], 0, 255)
        assert np.abs(made[0][..., ::-1] - wanted).max() <= 1


def test_equal_grey_sources_come_back(tmp_path):
    path = tmp_path / "grey"
    path.mkdir()
    for index in range(2):
        cv2.imwrite(str(path / f"{index}.png"), frame(index)[..., 0])
    assert run("--rgb", path, "--aux", path, "--out", tmp_path / "out").exit_code == 0
    for index, image in enumerate(pictures(tmp_path / "out")):
        assert np.array_equal(image[..., 0], frame(index)[..., 0])


def video(path: Path, count: int, seed: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, SIZE)
    for index in range(count):
        writer.write(frame(seed + index))
    writer.release()
    return path


def test_videos_to_a_video_and_a_range_of_frames(tmp_path):
    sources = ["--rgb", video(tmp_path / "v.avi", 9, 0), "--aux", video(tmp_path / "t.avi", 9, 50)]
    out = tmp_path / "deep" / "fused.mp4"
    result = run(*sources, "--out", out, "--start", 2, "--max-frames", 4, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["frames"], summary["fused"], summary["expert"], summary["out"]) == (4, 4, "laplacian", str(out))
    made = cv2.VideoCapture(str(out))
    assert made.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert made.get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    again = run(*sources, "--out", out)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run(*sources, "--out", out, "--overwrite", "--max-frames", 1).exit_code == 0
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT) == 1


def test_side_by_side(pair, tmp_path):
    assert run(*pair, "--out", tmp_path / "out", "--side-by-side", "--expert", "max").exit_code == 0
    first = pictures(tmp_path / "out")[0]
    assert first.shape[1] >= 3 * first.shape[0]
    panels = np.array_split(first, 3, axis=1)
    assert len({panel.shape for panel in panels}) == 1
    assert all(not np.array_equal(one, other) for one, other in itertools.pairwise(panels))


def test_sixteen_bits_of_thermal(tmp_path):
    thermal = tmp_path / "t16"
    thermal.mkdir()
    for index in range(FRAMES):
        cv2.imwrite(str(thermal / f"{index}.png"), 7000 + 10 * frame(index)[..., 0].astype(np.uint16))
    result = run("--rgb", folder(tmp_path / "rgb", 0), "--aux", thermal, "--out", tmp_path / "out", "--expert", "max")
    assert result.exit_code == 0, result.stderr
    assert len(pictures(tmp_path / "out")) == FRAMES


def test_a_missing_image_falls_back_to_the_other_one(tmp_path):
    rgb, aux = folder(tmp_path / "rgb", 0, missing=(1, 3)), folder(tmp_path / "aux", 100, missing=(2, 3))
    result = run("--rgb", rgb, "--aux", aux, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    made = pictures(tmp_path / "out")
    assert np.array_equal(made[1], frame(101))
    assert np.array_equal(made[2], frame(2))
    assert made[3].max() == 0
    assert "1 frames lack rgb: the other image stands alone" in result.stdout
    assert "1 frames lack aux" in result.stdout
    assert "1 frames have no image at all: black" in result.stdout


def test_sizes_must_agree_or_be_made_to(tmp_path):
    sources = ["--rgb", folder(tmp_path / "rgb", 0), "--aux", folder(tmp_path / "aux", 9, size=(24, 17))]
    result = run(*sources, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--resize-aux" in result.stderr
    assert run(*sources, "--out", tmp_path / "out", "--resize-aux").exit_code == 0
    assert pictures(tmp_path / "out")[0].shape == (34, 48, 3)


CODE = """
import torch
def wrong(rgb, aux):
    return rgb[..., 1:]
def raises(rgb, aux):
    raise ValueError("no luck")
class Later:
    name, calls = "later", 0
    def __call__(self, rgb, aux):
        self.calls += 1
        return rgb * float("nan") if self.calls == 3 else rgb
later = Later()
"""


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--expert", "laplacien"], "did you mean 'laplacian'"),
        (["--expert", "tpf-tiny"], "tpf-tiny has no weights in the package.*untrained.*the mean"),
        (["--expert", "tpf-tiny", "--weights", "none.pth"], r"no weights of tpf-tiny at none\.pth"),
        (["--expert", "emma", "--weights", "none.pth", "--code", "a:b"], r"no weights of expert emma at none\.pth"),
        (["--expert", "code.py:wrong"], r"frame 0: expert code.py:wrong returned shape \(1, 3, 34, 47\)"),
        (["--expert", "code.py:later"], "frame 2: expert later returned NaN"),
        (["--expert", "code.py:raises"], r"frame 0: expert code.py:raises raised ValueError at code.py:6: no luck"),
        (["--start", "9"], "ends before frame 9"),
        (["--sync", "tme"], "--sync tme is not one of index, time"),
        (["--cache-as", "lasher"], "not DATASET/SEQUENCE"),
        (["--cache-as", "a/b", "--side-by-side"], "choose one"),
        (["--cache-as", "a/../../b"], "cannot name a cached frame"),
        (["--device", "cuda:77"], "cuda"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(pair, tmp_path, monkeypatch, options, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(CODE)
    result = run(*pair, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert re.search(what, result.stderr)
    assert len([line for line in result.stderr.splitlines() if line.startswith("duotrack: ")]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("side", ["rgb", "aux"])
def test_a_source_is_never_written_over(pair, tmp_path, side):
    before = sorted(path.name for path in (tmp_path / side).iterdir())
    result = run(*pair, "--out", tmp_path / side, "--overwrite")
    assert result.exit_code == 2
    assert f"is the source --{side}" in result.stderr
    assert sorted(path.name for path in (tmp_path / side).iterdir()) == before


def test_an_adapter_with_weights(pair, tmp_path):
    net = MODELS["tpf-tiny"].build().eval()
    with torch.no_grad():
        net.fusion.head.bias[0] = 30.0  # the map is 1 everywhere: the visible image comes through
    save_weights(tmp_path / "w.safetensors", net, model="tpf-tiny", elimination="none")
    options = ["--model", "tpf-tiny", "--weights", tmp_path / "w.safetensors", "--max-frames", 1]
    result = run(*pair, *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert np.abs(pictures(tmp_path / "out")[0].astype(int) - frame(0)).max() <= 1


def test_filling_a_cache_goes_on_where_it_was(pair, tmp_path):
    options = [*pair, "--expert", "max", "--out", tmp_path / "cache", "--cache-as", "lasher/day/boy", "--json"]
    assert json.loads(run(*options, "--max-frames", 2).stdout)["fused"] == 2
    first = tmp_path / "cache" / "lasher" / "day" / "boy" / "000000.png"
    stamp = first.stat().st_mtime_ns
    summary = json.loads(run(*options).stdout)
    assert (summary["frames"], summary["fused"], summary["kept"]) == (FRAMES, FRAMES - 2, 2)
    assert first.stat().st_mtime_ns == stamp
    assert json.loads(run(*options, "--overwrite").stdout)["fused"] == FRAMES
    cache = open_cache(tmp_path / "cache")
    assert cache.name == "max"
    run(*pair, "--expert", "max", "--out", tmp_path / "out")
    for index, picture in enumerate(pictures(tmp_path / "out")):
        assert np.array_equal(cache.read("lasher", "day/boy", index, size=SIZE), picture[..., ::-1])
    other = run(*pair, "--expert", "average", "--out", tmp_path / "cache", "--cache-as", "lasher/day/boy")
    assert other.exit_code == 2
    assert "holds frames of expert max" in other.stderr
    named = run(*pair, "--expert", f"cache:{tmp_path / 'cache'}", "--out", tmp_path / "more")
    assert named.exit_code == 2
    assert "fused already" in named.stderr


STOPPING = """
import signal
class Stop:
    calls = 0
    def __call__(self, rgb, aux):
        self.calls += 1
        if self.calls == 3:
            signal.raise_signal(signal.{name})
        return rgb
stop = Stop()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("out", ["out", "out.mp4"])
def test_interrupted_it_ends_with_whole_files(pair, tmp_path, name, out):
    before = signal.getsignal(getattr(signal, name))
    (tmp_path / "stop.py").write_text(STOPPING.format(name=name))
    result = run(*pair, "--expert", f"{tmp_path / 'stop.py'}:stop", "--out", tmp_path / out)
    assert result.exit_code == 130
    assert "Ctrl-C" in result.stdout
    if out == "out":
        assert len(pictures(tmp_path / out)) == 3
    else:
        assert cv2.VideoCapture(str(tmp_path / out)).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert signal.getsignal(getattr(signal, name)) is before


def test_real_pairs_through_the_command(shared_data, tmp_path):
    room = shared_data / "rgbt_pairs" / "llvip"
    sources = ["--rgb", room / "visible", "--aux", room / "infrared"]
    result = run(*sources, "--out", tmp_path / "fused.mp4", "--max-frames", 3, "--side-by-side")
    assert result.exit_code == 0, result.stderr
    assert cv2.VideoCapture(str(tmp_path / "fused.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
