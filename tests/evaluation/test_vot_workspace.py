"""Workspaces for the VOT toolkit: what is written, what is kept, what is refused."""

import configparser
import shlex

import pytest
import yaml

from duotrack.errors import InputError
from duotrack.evaluation.vot_workspace import link_sequences, write_workspace
from vot_sequences import write_vot_sequences

COMMAND = ["/a folder/python", "-m", "duotrack", "vot", "--weights", "/50 % done/w.safetensors"]


def section(workspace, name: str) -> dict[str, str]:
    parser = configparser.ConfigParser()  # as the toolkit reads it, % and all
    parser.read(workspace / "trackers.ini")
    return dict(parser[name])


def test_a_new_workspace(tmp_path):
    files = write_workspace(tmp_path / "ws", stack="vot2022/rgbd", name="mine", command=COMMAND)
    assert files == [tmp_path / "ws" / "config.yaml", tmp_path / "ws" / "trackers.ini"]
    config = yaml.safe_load((tmp_path / "ws" / "config.yaml").read_text())
    assert config == {"stack": "vot2022/rgbd", "registry": ["./trackers.ini"]}
    tracker = section(tmp_path / "ws", "mine")
    assert (tracker["label"], tracker["protocol"]) == ("mine", "trax")
    assert shlex.split(tracker["command"]) == COMMAND


def test_another_tracker_joins_a_workspace(tmp_path):
    (tmp_path / "config.yaml").write_text("stack: vot2022/rgbd\nregistry: [./elsewhere]\nsequences: data\n")
    kept = "# my trackers\n[theirs]\nprotocol = traxpython\ncommand = module\n"
    (tmp_path / "trackers.ini").write_text(kept)
    write_workspace(tmp_path, stack="vot2022/rgbd", name="mine", command=COMMAND)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config == {"stack": "vot2022/rgbd", "registry": ["./elsewhere", "./trackers.ini"], "sequences": "data"}
    assert (tmp_path / "trackers.ini").read_text().startswith(kept)
    assert section(tmp_path, "mine")["protocol"] == "trax"


def test_only_overwrite_replaces(tmp_path):
    write_workspace(tmp_path, stack="vot2022/rgbd", name="mine", command=["old"])
    write_workspace(tmp_path, stack="vot2022/rgbd", name="next", command=["next"])
    before = [(tmp_path / name).read_text() for name in ("config.yaml", "trackers.ini")]
    with pytest.raises(InputError, match="has a tracker mine already"):
        write_workspace(tmp_path, stack="vot2022/rgbd", name="mine", command=["new"])
    with pytest.raises(InputError, match="has the stack vot2022/rgbd, not vot2021/rgbd"):
        write_workspace(tmp_path, stack="vot2021/rgbd", name="other", command=["new"])
    assert [(tmp_path / name).read_text() for name in ("config.yaml", "trackers.ini")] == before
    write_workspace(tmp_path, stack="vot2021/rgbd", name="mine", command=["new"], overwrite=True)
    assert section(tmp_path, "mine")["command"] == "new"
    assert section(tmp_path, "next")["command"] == "next"
    assert "old" not in (tmp_path / "trackers.ini").read_text()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["stack"] == "vot2021/rgbd"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.yaml", "stack: [", "is not the configuration of a VOT workspace"),
        ("config.yaml", "just words", "is not the configuration of a VOT workspace"),
        ("trackers.ini", "no section = 1", "is not a list of trackers"),
    ],
)
def test_files_that_cannot_be_understood_are_left_alone(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message):
        write_workspace(tmp_path, stack="vot2022/rgbd", name="mine", command=COMMAND)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_text() == text


@pytest.mark.parametrize("name", ["", "ckd tiny", "a/b", "mine@1", "v1.5"])
def test_names_that_the_toolkit_refuses(tmp_path, name):
    with pytest.raises(InputError, match="letters, digits, hyphens and underscores"):
        write_workspace(tmp_path, stack="vot2022/rgbd", name=name, command=COMMAND)


def test_sequences_are_linked_not_copied(tmp_path):
    source = write_vot_sequences(tmp_path / "data", ("ball", "cube"))
    (source / "notes").mkdir()  # no sequence
    for _ in range(2):  # the second time there is nothing to do
        assert link_sequences(source, tmp_path / "ws", ("color", "depth")) == ["ball", "cube"]
    ball = tmp_path / "ws" / "sequences" / "ball"
    assert (tmp_path / "ws" / "sequences" / "list.txt").read_text() == "ball\ncube\n"
    assert {path.name for path in ball.iterdir() if path.is_symlink()} == {
        "color",
        "depth",
        "groundtruth.txt",
        "anchor.value",
    }
    assert (ball / "depth" / "00000014.png").is_file()
    lines = (ball / "sequence").read_text().splitlines()
    assert lines[-2:] == ["channels.color=color/%08d.jpg", "channels.depth=depth/%08d.png"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "ball" / "groundtruth.txt").unlink(), "no folder in it has a groundtruth.txt"),
        (lambda root: (root / "ball" / "depth").rename(root / "ball" / "tiefe"), "but --channels asks for depth"),
        (lambda root: (root / "ball" / "color" / "00000000.jpg").touch(), "numbered from 1"),
        (lambda root: (root / "ball" / "color" / "00000001.jpg").rename(root / "first.jpg"), "numbered from 1"),
        (lambda root: [p.rename(p.with_stem("f" + p.stem)) for p in (root / "ball" / "ir").iterdir()], None),
    ],
    ids=["no truth", "no channel", "from 0", "from 2", "a channel that is not asked for"],
)
def test_sequences_that_the_toolkit_could_not_read(tmp_path, spoil, message):
    source = write_vot_sequences(tmp_path / "data")
    spoil(source)
    if message is None:
        assert link_sequences(source, tmp_path / "ws", ("color", "depth")) == ["ball"]
        return
    with pytest.raises(InputError, match=message):
        link_sequences(source, tmp_path / "ws", ("color", "depth"))
    assert not (tmp_path / "ws").exists()


def test_what_is_there_already_is_not_touched(tmp_path):
    source = write_vot_sequences(tmp_path / "data")
    theirs = tmp_path / "ws" / "sequences" / "ball" / "color"
    theirs.mkdir(parents=True)
    with pytest.raises(InputError, match="is there already and is not a link"):
        link_sequences(source, tmp_path / "ws", ("color", "depth"))
    with pytest.raises(InputError, match="no such folder"):
        link_sequences(tmp_path / "gone", tmp_path / "ws", ("color",))
