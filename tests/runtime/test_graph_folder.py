"""The folder of kept graphs: nothing half made stays, it does not grow for ever, and nothing in use is removed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from duotrack.errors import InputError
from duotrack.runtime import graph_cache
from duotrack.runtime.graph_cache import Recipe, kept_graph
from duotrack.runtime.graph_folder import hold, making, remove_left_over, shrink, size_limit

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
WAITS = """
import sys, time
from pathlib import Path
from duotrack.runtime.graph_folder import hold, making
folder = Path(sys.argv[1])
if sys.argv[2] == "hold":
    assert hold(folder / sys.argv[3])
    print("ready", flush=True)
    sys.stdin.read()
else:
    with making(folder, sys.argv[3]) as made:
        (made / "graph.xml").write_text("half")
        print("ready", flush=True)
        sys.stdin.read()
"""
NAMES = [digit * 32 for digit in "0123456789"]


def other(*arguments: object) -> subprocess.Popen[str]:
    """Another process that holds or makes something until its standard input ends."""
    command = [sys.executable, "-c", WAITS, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def put(folder: Path, name: str, *, size: int = 1000, used: float) -> Path:
    """A graph of so many bytes that was last used at a time."""
    graph = folder / name
    graph.mkdir()
    (graph / "graph.bin").write_bytes(b"x" * size)
    (graph / "used").touch()
    os.utime(graph / "used", (used, used))
    return graph


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_what_is_made_is_there_whole_or_not_at_all(tmp_path):
    with making(tmp_path, NAMES[0]) as made:
        (made / "graph.xml").write_text("whole")
        assert names(tmp_path) == [made.name]
    assert names(tmp_path) == [NAMES[0]]
    with pytest.raises(IsADirectoryError), making(tmp_path, NAMES[1]) as made:
        made.write_text("this fails")
    assert names(tmp_path) == [NAMES[0]]


def test_two_that_make_the_same_leave_one(tmp_path):
    with making(tmp_path, NAMES[0]) as mine, making(tmp_path, NAMES[0]) as yours:
        (yours / "graph.xml").write_text("first")
        (mine / "graph.xml").write_text("second")
    assert names(tmp_path) == [NAMES[0]]
    assert (tmp_path / NAMES[0] / "graph.xml").read_text() == "first"
    assert not hold(tmp_path / NAMES[1])


def test_what_a_killed_process_left_goes_and_a_living_ones_stays(tmp_path):
    dead, living = other(tmp_path, "make", NAMES[0]), other(tmp_path, "make", NAMES[1])
    made = names(tmp_path)
    assert len(made) == 2
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert names(tmp_path) == made
    with making(tmp_path, NAMES[2]) as mine:
        assert len(names(tmp_path)) == 2
    assert not mine.exists()
    assert living.communicate("")[0] == ""
    assert living.returncode == 0
    assert names(tmp_path) == [NAMES[1], NAMES[2]]
    assert (tmp_path / NAMES[1] / "graph.xml").read_text() == "half"


@pytest.mark.parametrize(("hours", "stays"), [(0, True), (2, False)])
def test_what_an_older_version_left_goes_with_time(tmp_path, hours, stays):
    left = tmp_path / ".building-abc"
    left.mkdir()
    (left / "graph.onnx").write_text("half")
    then = left.stat().st_mtime - 3600 * hours
    os.utime(left, (then, then))
    remove_left_over(tmp_path)
    assert left.exists() == stays


def test_graphs_go_in_the_order_of_their_last_use(tmp_path):
    for i, name in enumerate(NAMES[:5]):
        put(tmp_path, name, used=1000.0 + 100 * (i if i else 9))
    (tmp_path / "mine").mkdir()
    shrink(tmp_path, 3000)
    assert names(tmp_path) == [NAMES[0], NAMES[3], NAMES[4], "mine"]
    shrink(tmp_path, float("inf"))
    assert len(names(tmp_path)) == 4
    assert hold(tmp_path / NAMES[3])  # is its last use, and goes on
    shrink(tmp_path, 0)
    assert names(tmp_path) == [NAMES[3], "mine"]


def test_what_another_process_uses_stays_until_it_ends(tmp_path):
    used = put(tmp_path, NAMES[0], used=1000.0)
    put(tmp_path, NAMES[1], used=2000.0)
    holder = other(tmp_path, "hold", NAMES[0])
    shrink(tmp_path, 0)
    assert names(tmp_path) == [NAMES[0]]
    assert (used / "graph.bin").stat().st_size == 1000
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    shrink(tmp_path, 0)
    assert names(tmp_path) == []
    assert not hold(used)


@pytest.mark.parametrize(("said", "meant"), [(None, 5e9), ("", 5e9), ("0.5", 0.5e9), ("0", 0.0), ("inf", float("inf"))])
def test_the_limit_is_in_gigabytes(monkeypatch, said, meant):
    monkeypatch.delenv("DUOTRACK_CACHE_LIMIT", raising=False)
    if said is not None:
        monkeypatch.setenv("DUOTRACK_CACHE_LIMIT", said)
    assert size_limit() == meant


@pytest.mark.parametrize("said", ["5GB", "-1", "nan", "much"])
def test_a_limit_that_is_none_is_one_line(monkeypatch, tmp_path, said):
    monkeypatch.setenv("DUOTRACK_CACHE_LIMIT", said)
    with pytest.raises(InputError, match=r"DUOTRACK_CACHE_LIMIT.*gigabytes"), making(tmp_path, NAMES[0]):
        raise AssertionError("nothing may begin")
    assert names(tmp_path) == []


def test_graphs_are_made_once_kept_and_removed_for_newer_ones(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path))
    monkeypatch.setenv("DUOTRACK_CACHE_LIMIT", "0.0000025")
    asked: list[Path] = []

    def make(recipe: Recipe, file: Path) -> None:
        asked.append(file)
        file.write_bytes(b"x" * 1000)

    monkeypatch.setattr(graph_cache, "_build_apart", make)
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"weights")
    common = {"model": "m", "weights": str(weights), "template": ("rgb",), "search": ("rgb",), "format": "openvino"}
    (tmp_path / "graphs").mkdir()
    old = put(tmp_path / "graphs", NAMES[0], used=1000.0)
    first = kept_graph(Recipe(**common, elimination=None, precision="fp32"))
    again = kept_graph(Recipe(**common, elimination=None, precision="fp32"))
    assert (first, len(asked), old.exists()) == (again, 1, True)
    second = kept_graph(Recipe(**common, elimination=None, precision="bf16"))
    assert len(asked) == 2
    assert first.is_file()
    assert second.is_file()
    assert not old.exists()
    weights.write_bytes(b"others")
    assert kept_graph(Recipe(**common, elimination=None, precision="fp32")) != first
