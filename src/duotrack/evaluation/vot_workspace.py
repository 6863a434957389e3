"""A workspace of the VOT toolkit with a tracker of ours in it (docs/specs/patrack.md, section 4.1).

Only files are written here; the toolkit itself (GPL) is never imported.
"""

import configparser
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duotrack.errors import InputError, first_few
from duotrack.files import write_text

_REGISTRY = "./trackers.ini"
_NUMBERED = re.compile(r"([0-9]+)(\.[A-Za-z]+)")


def write_workspace(
    folder: str | Path,
    *,
    stack: str,
    name: str,
    command: Sequence[str],
    overwrite: bool = False,
) -> list[Path]:
    """Write `config.yaml` and the tracker's section of `trackers.ini`; other trackers' sections stay as they are.

    Args:
        stack: experiments, by the toolkit's name (`vot2022/rgbd`), or the path of a stack file.
        name: the tracker's section.
        command: what the toolkit is to run; from any folder, so paths must be absolute.
        overwrite: replace a section or a stack that differs.

    Returns:
        The files that were written.

    Raises:
        InputError: a name that the toolkit does not take, or the workspace holds another stack, another tracker of that
            name or a file that cannot be understood.
    """
    folder = Path(folder)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"tracker name {name!r}: the VOT toolkit takes letters, digits, hyphens and underscores only")
    section = f"[{name}]\nlabel = {name}\nprotocol = trax\ncommand = {_ini(shlex.join(command))}\n"
    registry = folder / "trackers.ini"
    texts = {
        folder / "config.yaml": _config(folder / "config.yaml", stack, overwrite=overwrite),
        registry: _with_section(registry, name, section, overwrite=overwrite),
    }
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def _ini(value: str) -> str:
    return value.replace("%", "%%")  # the toolkit's reader takes % for a reference


def _config(path: Path, stack: str, *, overwrite: bool) -> str:
    import yaml

    config: dict[str, Any] = {}
    if path.exists():
        try:
            read = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            read = None
        if not isinstance(read, dict):
            raise InputError(f"{path} is not the configuration of a VOT workspace: give another folder")
        config = read
        if config.get("stack", stack) != stack and not overwrite:
            raise InputError(f"{path} has the stack {config['stack']}, not {stack}; give another folder or --overwrite")
    listed = config.get("registry")
    known = [str(entry) for entry in listed] if isinstance(listed, list) else []
    config |= {"stack": stack, "registry": known if _REGISTRY in known else [*known, _REGISTRY]}
    return yaml.safe_dump(config, sort_keys=False)


def _with_section(path: Path, name: str, section: str, *, overwrite: bool) -> str:
    if not path.exists():
        return section
    parser = configparser.ConfigParser()
    try:
        text = path.read_text(encoding="utf-8")
        parser.read_string(text)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a list of trackers ({' '.join(str(error).split())}); mend it first") from error
    if name in parser:
        if not overwrite:
            raise InputError(f"{path} has a tracker {name} already; choose another --name, or give --overwrite")
        text = re.sub(rf"(?ms)^\[{re.escape(name)}\].*?(?=^\[|\Z)", "", text)
    return f"{text.rstrip()}\n\n{section}".lstrip()


def link_sequences(source: str | Path, folder: str | Path, channels: Sequence[str]) -> list[str]:
    """Make sequences that lie as DepthTrack's do usable in a workspace, by links: nothing is copied.

    Every folder `source/NAME` with `groundtruth.txt` and a folder of each channel (`color/00000001.jpg`, ...) becomes
    `folder/sequences/NAME` with links to these and to its `.value`, `.tag` and `.label` files, and the file `sequence`
    that tells the toolkit how images are called. `list.txt` keeps the toolkit from downloading anything.

    Returns:
        The names of the sequences.

    Raises:
        InputError: no sequences there, a sequence without one of the channels, images that are not numbered from 1, or
            links that lead elsewhere.
    """
    source, target = Path(source).absolute(), Path(folder).absolute() / "sequences"
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; give the one that holds the sequences")
    sequences = sorted(path.parent for path in source.glob("*/groundtruth.txt"))
    if not sequences:
        raise InputError(f"{source}: no folder in it has a groundtruth.txt; give the one that holds the sequences")
    patterns = {path: {channel: _pattern(path / channel) for channel in channels} for path in sequences}
    for path, channel_patterns in patterns.items():
        files = [path / channel for channel in channels]
        files += [file for file in sorted(path.iterdir()) if file.suffix in (".value", ".tag", ".label")]
        for file in [path / "groundtruth.txt", *files]:
            _link(target / path.name / file.name, file)
        lines = [f"name={path.name}", "fps=30", "format=default"]
        lines += [f"channels.{channel}={channel}/{pattern}" for channel, pattern in channel_patterns.items()]
        write_text(target / path.name / "sequence", "\n".join(lines) + "\n")
    names = [path.name for path in sequences]
    write_text(target / "list.txt", "\n".join(names) + "\n")
    return names


def _pattern(folder: Path) -> str:
    """How the toolkit finds the images of a channel, e.g. `%08d.png`."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not names:
        raise InputError(f"{folder}: no images there, but --channels asks for {folder.name}")
    numbered = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    first = min(numbered, key=lambda match: int(match[1]), default=None)
    if first is None or int(first[1]) != 1:
        raise InputError(f"{folder} holds {first_few(names)}: the VOT toolkit wants images numbered from 1")
    return f"%0{len(first[1])}d{first[2]}"


def _link(link: Path, file: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.readlink() == file:
        return
    if link.is_symlink() or link.exists():
        raise InputError(f"{link} is there already and is not a link to {file}; give another folder")
    link.symlink_to(file)
