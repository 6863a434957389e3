"""Help answers without waiting for anything heavy."""

import subprocess
import sys

import pytest

# not pydantic: typer itself imports it where it is installed
HEAVY = {"torch", "cv2", "numpy", "av", "safetensors", "yaml", "matplotlib", "pytorch_lightning"}


def imported(*arguments: str) -> tuple[str, set[str]]:
    """Standard output of `python -X importtime ARGUMENTS`, and the top-level modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 20
    return done.stdout, {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


NAMES = (
    "track", "fuse", "demo", "models", "train", "weights", "evaluate", "score", "report", "vot", "data", "export",
    "benchmark",
)  # fmt: skip
COMMANDS = [[name] for name in NAMES]


@pytest.mark.parametrize("command", [[], ["data", "check"], ["analyze", "gap"], *COMMANDS], ids=" ".join)
def test_help_imports_nothing_heavy(command):
    out, modules = imported("-m", "duotrack", *command, "--help")
    assert "Usage" in out
    assert not modules & HEAVY


@pytest.mark.parametrize(
    "command", ["track", "fuse", "demo", "models", "evaluate", "score", "report", "vot", "export", "benchmark"]
)
def test_commands_explain_themselves_with_an_example(command):
    out, _ = imported("-m", "duotrack", command, "--help")
    assert "Example" in out


def test_importing_the_package_imports_nothing_heavy():
    _, modules = imported("-c", "import duotrack; duotrack.__version__")
    assert not modules & HEAVY


def test_who_stops_reading_is_told_nothing():
    """`duotrack ... | head`: typer ends such a program quietly."""
    child = subprocess.Popen(
        [sys.executable, "-m", "duotrack", "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.close()  # before it has started
    assert child.stderr is not None
    said = child.stderr.read()
    assert (child.wait(timeout=120), said) == (1, "")
