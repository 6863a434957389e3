"""`duotrack train`: experts that cannot be had end the run before its folder is made."""

import re

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from duotrack.cli import app


@pytest.mark.parametrize(
    ("experts", "what"),
    [("[laplacan]", "did you mean 'laplacian'"), ("['cache:none']", r"no cache of fused frames at none/cache\.json")],
)
def test_a_wrong_expert_leaves_no_run_folder(tmp_path, experts, what):
    for side in ("visible", "infrared"):
        (tmp_path / "data" / "s" / side).mkdir(parents=True)
        for index in range(24):
            image = np.full((48, 64, 3), 7 * index, np.uint8)
            cv2.imwrite(str(tmp_path / "data" / "s" / side / f"{index:04d}.png"), image)
    (tmp_path / "data" / "s" / "init.txt").write_text("10,10,16,16\n" * 24)
    options = ["--data", tmp_path / "data", "--out", tmp_path / "run", "--device", "cpu"]
    result = CliRunner().invoke(
        app, ["train", "tpf-tiny-stage1", *map(str, options), "--set", f"method.mad.experts={experts}"]
    )
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("duotrack: ")
    assert re.search(what, result.stderr)
    assert not (tmp_path / "run").exists()
