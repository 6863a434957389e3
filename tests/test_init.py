"""What `import duotrack` does to the process."""

import os
import subprocess
import sys

import pytest

SAYS = "import os, duotrack; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "None 5000"),
        ({"OMP_WAIT_POLICY": "passive"}, "passive None"),
        ({"GOMP_SPINCOUNT": "70"}, "None 70"),
    ],
)
def test_waiting_threads_soon_sleep_where_nobody_chose(given, found):
    kept = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", SAYS], env=kept | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
