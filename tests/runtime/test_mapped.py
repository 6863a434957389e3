"""Memory is given back, and everything still runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"
PROGRAM = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
import torch
from duotrack.runtime.mapped import give_back

def resident():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("RssFile:")]
    return int(line.split()[1])

a = torch.randn(64, 64)
expected, before = a @ a, resident()
give_back()
after = resident()
assert torch.equal(a @ a, expected)
assert torch.linalg.svdvals(a).shape == (64,)
print(before, after)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what is resident")
def test_code_that_ran_only_while_loading_is_given_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after < before / 2
