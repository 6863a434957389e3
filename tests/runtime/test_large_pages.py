"""Tensors in large pages."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from duotrack.runtime import large_pages

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MB = 1 << 20


def test_tensors_lie_one_after_another_and_keep_their_numbers():
    shapes = [(3, 5), (1,), (2, 7, 11), (0, 4), (700, 900)]
    made = [large_pages.empty(*shape) for shape in shapes]
    for i, each in enumerate(made):
        each.fill_(i)
    for i, (each, shape) in enumerate(zip(made, shapes, strict=True)):
        assert (tuple(each.shape), each.dtype, each.is_contiguous()) == (shape, torch.bfloat16, True)
        assert (each == i).all()
        assert each.data_ptr() % 64 == 0


def test_what_is_larger_than_is_asked_for_at_a_time_has_room_of_its_own(monkeypatch):
    monkeypatch.setattr(large_pages, "_CHUNK", MB)
    first, large = large_pages.empty(2, 16), large_pages.empty(5, MB)
    assert large.fill_(2).sum(dtype=torch.float64) == 10 * MB
    assert first.fill_(1).sum() == 32


def test_memory_goes_with_the_last_tensor_in_it(monkeypatch):
    monkeypatch.setattr(large_pages._Open, "mapping", None)  # tensors of other tests may lie in the one there was
    first, second = large_pages.empty(4).fill_(1), large_pages.empty(4).fill_(2)
    mapping = large_pages._Open.mapping
    del first
    gc.collect()
    assert mapping() is not None
    assert second.tolist() == [2.0] * 4
    del second
    gc.collect()
    assert mapping() is None
    assert large_pages.empty(4).fill_(3).tolist() == [3.0] * 4


def test_threads_get_memory_of_their_own():
    def fill(number: int) -> torch.Tensor:
        return large_pages.empty(1000).fill_(number)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(fill, range(200)))
    assert all((each == i).all() for i, each in enumerate(made))


@pytest.mark.skipif(
    not SETTING.exists() or "[never]" in SETTING.read_text(), reason="this system gives programs no large pages"
)
def test_pages_are_large_where_there_are_any():
    made = large_pages.empty(16 * MB).fill_(1)  # 32 MB
    start, huge = made.data_ptr(), {}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            first, last = (int(each, 16) for each in line.split()[0].split("-"))
        elif line.startswith("AnonHugePages:"):
            huge[first, last] = int(line.split()[1])
    (found,) = [size for (first, last), size in huge.items() if first <= start < last]
    assert found > 0
