"""Live sources, on a true stream: ffmpeg serves a clip over loopback."""

import logging
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from duotrack.errors import InputError
from duotrack.frames import FramePair
from duotrack.video.live import Live, LiveStream
from duotrack.video.pair import by_arrival
from duotrack.video.source import open_source
from duotrack.video.stream import Frame

WAIT = 60.0
PATIENT = Live(open_timeout=20, read_timeout=5, attempts=200, delay=0.1, max_delay=0.2)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed, no stream to read")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Two seconds of a counting test picture with a key frame every five frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.ts"
    source = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=2"]
    subprocess.run(["ffmpeg", "-loglevel", "error", *source, "-c:v", "mpeg2video", "-g", "5", str(path)], check=True)
    return path


Serve = Callable[..., subprocess.Popen]


@pytest.fixture
def serve(clip) -> Iterator[Serve]:
    """serve(port): a process that sends the clip again and again, in real time, to the first who connects."""
    running: list[subprocess.Popen] = []

    def start(port: int, *, loops: int = -1) -> subprocess.Popen:
        command = ["ffmpeg", "-loglevel", "quiet", "-re", "-stream_loop", str(loops), "-i", str(clip), "-c", "copy"]
        command += ["-f", "mpegts", f"tcp://127.0.0.1:{port}?listen=1"]
        running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait(WAIT)


def connect(port: int, open_it=None):
    """Open the stream once its server listens, which nothing announces: connecting takes the server's only place."""
    pause = threading.Event()
    open_it = open_it or (lambda address: LiveStream(address, name="cam", options=PATIENT))
    for _ in range(int(WAIT / 0.1)):
        try:
            return open_it(f"tcp://127.0.0.1:{port}")
        except InputError:
            pause.wait(0.1)
    pytest.fail("the server never came up")


@needs_ffmpeg
def test_slow_reader_gets_the_newest_frame(serve):
    port = free_port()
    serve(port)
    with connect(port) as stream:
        assert (stream.size, stream.kind, stream.length) == ((160, 120), "network stream", None)
        frames = iter(stream)
        first = next(frames)
        assert first.image.shape == (120, 160, 3)
        with stream.changed:
            assert stream.changed.wait_for(lambda: stream.dropped >= first.index + 10, WAIT)
        second = next(frames)
        third = next(frames)
    # what came in between was dropped, not queued
    assert second.index - first.index >= 10
    assert third.index > second.index
    assert first.time < second.time < third.time
    assert stream.dropped >= third.index - 2
    assert not any(thread.name.startswith("duotrack") for thread in threading.enumerate())


@needs_ffmpeg
def test_reconnects_when_the_server_comes_back(serve, caplog):
    port = free_port()
    server = serve(port)
    with caplog.at_level(logging.WARNING), connect(port) as stream:
        frames = iter(stream)
        before = next(frames)
        server.kill()
        server.wait(WAIT)
        with stream.changed:
            assert stream.changed.wait_for(lambda: not stream.connected, WAIT)
        serve(port)
        with stream.changed:
            assert stream.changed.wait_for(lambda: stream.connected, WAIT)
        after = next(frames)
        assert after.index > before.index
    assert any("broke off" in message for message in caplog.messages)
    assert any("reconnected at attempt" in message for message in caplog.messages)


@needs_ffmpeg
def test_stream_that_stays_away_ends(serve, caplog):
    port = free_port()
    serve(port, loops=0)
    options = PATIENT.model_copy(update={"attempts": 2, "delay": 0.05})
    with connect(port, lambda address: open_source(address, None, live=options)) as source:
        assert source.live
        assert source.length is None
        pairs: list[FramePair] = list(source)
    assert [p.index for p in pairs] == list(range(len(pairs)))
    assert pairs[0].time == 0
    assert any("stays away" in message for message in caplog.messages)


@needs_ffmpeg
def test_two_streams_pair_by_arrival(serve):
    ports = free_port(), free_port()
    for port in ports:
        serve(port)
    changed = threading.Condition()

    def open_it(address):
        return LiveStream(address, name="cam", options=PATIENT, changed=changed)

    with connect(ports[0], open_it) as rgb, connect(ports[1], open_it) as aux:
        both = 0
        for _, sides in zip(range(200), by_arrival(rgb, aux, tolerance=5.0), strict=False):
            assert any(sides)
            both += all(sides)
            if both == 5:
                break
        assert both == 5


@needs_ffmpeg
def test_close_ends_a_waiting_reader(serve):
    port = free_port()
    serve(port)
    stream = connect(port)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(stream))
    reader.start()
    with stream.changed:
        assert stream.changed.wait_for(lambda: len(seen) > 2, WAIT)
    stream.close()
    reader.join(WAIT)
    assert not reader.is_alive()


def test_live_goes_with_live(monkeypatch, make_video):
    stand_in = Scripted([])
    monkeypatch.setattr("duotrack.video.source.LiveStream", lambda *args, **kwargs: stand_in)
    with pytest.raises(InputError, match="pair two live streams or two recorded ones"):
        open_source("0", make_video())
    assert stand_in.closed


class Scripted:
    """What `by_arrival` sees of a live stream, with frames at given times and no thread."""

    name, kind, size, fps, length = "cam", "camera", (64, 48), None, None

    def __init__(self, times, changed=None, connected=True):
        self.changed = changed or threading.Condition()
        self._frames = [Frame(i, None, t) for i, t in enumerate(times)]
        self.dropped = 0
        self.connected = connected
        self.closed = False

    @property
    def fresh(self):
        return bool(self._frames)

    @property
    def ended(self):
        return not self._frames

    @property
    def arrived(self):
        return self._frames[0].time if self._frames else float("inf")

    def take(self):
        return self._frames.pop(0) if self._frames else None

    def drop(self):
        self._frames.pop(0)
        self.dropped += 1

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("rgb", "aux", "expected", "dropped"),
    [
        ([1.0, 2.0], [1.02, 2.02], [(0, 0), (1, 1)], 0),
        ([1.0, 2.0], [], [(0, None), (1, None)], 0),  # one sensor is away: no waiting
        ([1.0], [3.0], [(None, 0)], 1),  # the older of two far apart is dropped
    ],
)
def test_arrival_rules(rgb, aux, expected, dropped):
    changed = threading.Condition()
    left, right = Scripted(rgb, changed, bool(rgb)), Scripted(aux, changed, bool(aux))
    got = [
        tuple(None if side is None else side.index for side in sides)
        for sides in by_arrival(left, right, tolerance=0.1, clock=lambda: 1.0)
    ]
    assert got == expected
    assert left.dropped + right.dropped == dropped
