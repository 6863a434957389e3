"""Two processes train as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import toy_training
from duotrack.training.stream import HeldOut, Plan, RunSampler, make_plan
from sequences import write_sequence
from toy_training import small_recipe


@pytest.mark.slow
def test_two_gloo_processes_share_the_pairs_and_end_with_equal_weights(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_sequence(data, "pair")
    reports = {}
    for devices in (1, 2):
        out = tmp_path / f"run{devices}"
        command = [sys.executable, toy_training.__file__, str(data), str(out), "--devices", str(devices)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        reports[devices] = [json.loads(Path(f"{out}-rank{r}.json").read_text()) for r in range(devices)]
        assert (out / "weights.safetensors").is_file()
    alone, (first, second) = reports[1][0], reports[2]
    assert first["weights"] == second["weights"]
    assert not set(first["seen"]) & set(second["seen"])
    assert sorted(first["seen"] + second["seen"]) == sorted(alone["seen"])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_split_every_epoch_without_overlap(world: int) -> None:
    plan = make_plan(small_recipe(pairs_per_epoch=18, batch_size=2), world)
    batches = [list(RunSampler(plan, batch_size=2, rank=rank, world=world)) for rank in range(world)]
    assert {len(rank) for rank in batches} == {plan.batches}
    keys = [key for rank in batches for batch in rank for key in batch]
    per_epoch = 18 // world // 2 * 2 * world
    assert len(set(keys)) == len(keys)
    assert set(keys) == {(epoch, i) for epoch in range(2) for i in range(per_epoch)}


def test_a_resumed_stream_is_the_rest_of_the_whole_one() -> None:
    plan = Plan(batches_per_epoch=3, batches=7, steps=7)
    whole = list(RunSampler(plan, batch_size=2))
    for start in range(8):
        rest = RunSampler(plan, batch_size=2, start=start)
        assert list(rest) == whole[start:]
        assert len(rest) == 7


@pytest.mark.parametrize(("pairs", "world"), [(10, 1), (10, 2), (11, 2), (3, 4)])
def test_held_out_pairs_are_the_same_every_time_and_split_evenly(pairs: int, world: int) -> None:
    shares = [list(HeldOut(pairs=pairs, batch_size=4, rank=rank, world=world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    keys = [key for share in shares for batch in share for key in batch]
    assert len(set(keys)) == len(keys) == max(pairs // world, 1) * world


def test_steps_are_whole_whatever_the_accumulation() -> None:
    plan = make_plan(small_recipe(optimiser={"learning_rates": {"head": 1}, "accumulate": 3}))
    assert (plan.batches_per_epoch, plan.batches, plan.steps) == (4, 6, 2)
