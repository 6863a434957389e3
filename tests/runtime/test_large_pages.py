"""Tensors in large pages."""

import errno
import gc
import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from duotrack.runtime import large_pages

MB = 1 << 20
START = getattr(mmap, "MADV_HUGEPAGE", None)


@pytest.fixture(autouse=True)
def no_room_yet(monkeypatch):
    """Tensors of other tests may lie in the one there was."""
    monkeypatch.setattr(large_pages, "_rooms", [])


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
    first, large, last = (large_pages.empty(*shape) for shape in ((2, 16), (5, MB), (3,)))
    for i, each in enumerate((first, large, last)):
        each.fill_(i)
    assert all((each == i).all() for i, each in enumerate((first, large, last)))


def test_memory_goes_with_the_last_tensor_in_it():
    first, second = large_pages.empty(4).fill_(1), large_pages.empty(4).fill_(2)
    mapping = large_pages._rooms[-1].mapping
    del first
    gc.collect()
    assert mapping() is not None
    assert second.tolist() == [2.0] * 4
    del second
    gc.collect()
    assert mapping() is None
    assert large_pages.empty(4).fill_(3).tolist() == [3.0] * 4


def test_threads_get_memory_of_their_own(monkeypatch):
    made_here = large_pages._mapped

    def mapped(size):
        assert large_pages._lock.locked()  # nobody else looks for room now
        return made_here(size)

    monkeypatch.setattr(large_pages, "_mapped", mapped)

    def fill(number: int) -> torch.Tensor:
        return large_pages.empty(1000).fill_(number)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(fill, range(200)))
    assert all((each == i).all() for i, each in enumerate(made))


class Refusing(mmap.mmap):
    """As on a kernel that is built without large pages."""

    def madvise(self, *_):
        raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.skipif(START is None, reason="this system does not know large pages")
def test_a_kernel_without_large_pages_gives_ordinary_ones(monkeypatch):
    monkeypatch.setattr(large_pages.mmap, "mmap", Refusing)
    made = large_pages.empty(3, 4).fill_(2)
    assert made.sum() == 24
    assert isinstance(large_pages._rooms[-1].mapping(), Refusing)


def test_where_so_much_memory_is_refused_torch_is_asked(monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(large_pages.mmap, "mmap", refused)
    assert large_pages.empty(3, 4).fill_(2).sum() == 24
    assert not large_pages._rooms


def huge_at(address: int) -> int:
    """kB of large pages in the mapping that holds the address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            first, last = (int(each, 16) for each in line.split()[0].split("-"))
            inside = first <= address < last
        elif inside and line.startswith("AnonHugePages:"):
            return int(line.split()[1])
    return 0


def gives_large_pages() -> bool:
    if START is None or not Path("/proc/self/smaps").exists():
        return False
    plain = mmap.mmap(-1, 32 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        plain.madvise(START)
    except OSError:
        return False
    there = torch.frombuffer(plain, dtype=torch.uint8).fill_(1)
    return huge_at(there.data_ptr()) > 0


def test_pages_are_large_where_there_are_any():
    if not gives_large_pages():
        pytest.skip("this system gives programs no large pages")
    made = large_pages.empty(16 * MB).fill_(1)
    assert huge_at(made.data_ptr()) > 0
