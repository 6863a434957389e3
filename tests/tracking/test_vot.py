"""The TraX conversation with a real client over a socket, and a scripted network behind the tracker."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.depth import colour_depth
from duotrack.errors import InputError
from duotrack.tracking.crop import crop_square
from duotrack.tracking.preprocess import to_tensor
from duotrack.tracking.tracker import Tracker
from duotrack.tracking.vot import ChannelReader, channels_named, enclosing_box, serve
from scripted import GEOMETRY, ScriptedNet

trax = pytest.importorskip("trax", reason="vot-trax is not installed: pip install 'duotrack[vot]'")
from trax.client import Client  # noqa: E402

SIZE = (120, 160)
BOX = (60.0, 40.0, 20.0, 20.0)


@dataclass
class Conversation:
    """A client whose tracker answers in another thread. `error` is what ended the server, if anything did."""

    client: Client
    net: ScriptedNet
    write_end: int
    error: InputError | None = None

    def write(self, text: str) -> None:
        """Say something that the client would not."""
        os.write(self.write_end, text.encode())

    def vanish(self) -> None:
        """Close the pipe to the server without a word; the descriptor stays, as the library may still write to it."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.write_end)
        os.close(null)

    def start(self, images: dict[str, Path], region: object) -> tuple[tuple[float, ...], float]:
        """Give a region; box and confidence that come back."""
        return self._reply(self.client.initialize(self._paths(images), [(region, {})], {}))

    def frame(self, images: dict[str, Path]) -> tuple[tuple[float, ...], float]:
        """The next frame; box and confidence that come back."""
        return self._reply(self.client.frame(self._paths(images), {}, []))

    @staticmethod
    def _paths(images: dict[str, Path]) -> dict[str, object]:
        return {channel: trax.FileImage.create(str(path)) for channel, path in images.items()}

    @staticmethod
    def _reply(reply: tuple[list, float]) -> tuple[tuple[float, ...], float]:
        ((region, properties),), _ = reply
        return region.bounds(), float(properties["confidence"])


@contextmanager
def conversation(monkeypatch, net: ScriptedNet | None = None, channels=("color", "ir")) -> Iterator[Conversation]:
    """Serve a tracker on a pair of pipes and talk to it; at the end both sides are gone."""
    net = net or ScriptedNet()
    (server_reads, client_writes), (client_reads, server_writes) = os.pipe(), os.pipe()
    monkeypatch.setenv("TRAX_IN", str(server_reads))
    monkeypatch.setenv("TRAX_OUT", str(server_writes))
    ended: list[InputError] = []

    def run() -> None:
        try:
            serve(Tracker(net, geometry=GEOMETRY), channels, name="scripted")
        except InputError as error:
            ended.append(error)
        finally:
            os.close(server_writes)

    server = threading.Thread(target=run)
    server.start()
    client = Client(stream=(client_writes, client_reads), log=lambda text: None)  # without a log it fails in its set-up
    talk = Conversation(client, net, client_writes)
    try:
        yield talk
        client.quit()
    finally:
        talk.vanish()
        server.join(30)
        client.quit()  # or the library would, when its own logger is gone, and crash
        for end in (client_writes, client_reads, server_reads):
            os.close(end)
        talk.error = ended[0] if ended else None
        assert not server.is_alive()


@pytest.fixture
def images(tmp_path) -> dict[str, Path]:
    """One frame a channel; the file names have blanks and quotation marks."""
    rng = np.random.default_rng(3)
    paths = {channel: tmp_path / f"{channel} 'frame'.png" for channel in ("color", "ir", "depth")}
    assert cv2.imwrite(str(paths["color"]), rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    assert cv2.imwrite(str(paths["ir"]), rng.integers(0, 256, SIZE).astype(np.uint8))
    assert cv2.imwrite(str(paths["depth"]), rng.integers(500, 5000, SIZE).astype(np.uint16))
    return paths


def rectangle(*box: float) -> object:
    return trax.Rectangle.create(*(box or BOX))


def test_the_tracker_introduces_itself(monkeypatch):
    with conversation(monkeypatch, channels=("color", "depth")) as talk:
        assert talk.client.tracker_name == "scripted"
        assert talk.client.channels == ["color", "depth"]
        assert (talk.client.region_formats, talk.client.image_formats) == (["rectangle"], ["path"])
    assert talk.error is None


def test_rectangles_and_confidences_come_back(monkeypatch, images):
    """Search side 80 px on a 4x4 grid: the answer (2, 3) is 20 px to the right of the centre."""
    pair = {channel: images[channel] for channel in ("color", "ir")}
    net = ScriptedNet(answers=[(2, 3, 0.0, 0.0)], scores=[0.75, 0.25])
    with conversation(monkeypatch, net) as talk:
        assert talk.start(pair, rectangle()) == (BOX, 1.0)
        box, confidence = talk.frame(pair)
        assert box == pytest.approx((80, 40, 20, 20), abs=1e-3)
        assert confidence == pytest.approx(0.75)
        box, confidence = talk.frame(pair)
        assert box == pytest.approx((80, 40, 20, 20), abs=1e-3)
        assert confidence == pytest.approx(0.25)
        # the client starts again elsewhere, as multi-start experiments do
        assert talk.start(pair, rectangle(10, 12, 30, 20))[0] == (10, 12, 30, 20)
        box, _ = talk.frame(pair)
        assert np.array(box)[:2] + np.array(box)[2:] / 2 == pytest.approx([25, 22], abs=1e-3)
    assert talk.error is None


@pytest.mark.parametrize("channels", [("color",), ("ir",), ("depth",), ("color", "ir"), ("color", "depth")])
def test_the_network_sees_each_channel_where_it_belongs(monkeypatch, images, channels):
    with conversation(monkeypatch, channels=channels) as talk:
        talk.start({channel: images[channel] for channel in channels}, rectangle())
        talk.frame({channel: images[channel] for channel in channels})
    ((call),) = talk.net.calls
    shown = {
        "color": cv2.imread(str(images["color"]))[:, :, ::-1],
        "ir": cv2.cvtColor(cv2.imread(str(images["ir"]), cv2.IMREAD_UNCHANGED), cv2.COLOR_GRAY2RGB),
        "depth": colour_depth(cv2.imread(str(images["depth"]), cv2.IMREAD_UNCHANGED)),
    }
    sides = [next((c for c in channels if c == "color"), None), next((c for c in channels if c != "color"), None)]
    assert call["available"] == tuple(name for name, side in zip(("rgb", "aux"), sides, strict=True) if side)
    for channel, seen in zip(sides, call["search"], strict=True):
        if channel is None:
            assert seen is None
        else:
            np.testing.assert_array_equal(seen, to_tensor(crop_square(shown[channel], BOX, 4, 64).image))


def test_an_image_that_cannot_be_read_counts_as_missing(monkeypatch, images, tmp_path, caplog):
    good = {channel: images[channel] for channel in ("color", "ir")}
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(images["ir"].read_bytes()[:200])
    gone = tmp_path / "gone.png"
    with conversation(monkeypatch) as talk:
        talk.start(good, rectangle())
        box, confidence = talk.frame(good | {"ir": damaged})
        talk.frame(good | {"color": gone})
        held = talk.frame({"color": gone, "ir": damaged})
        talk.frame(good)
    assert [call["available"] for call in talk.net.calls] == [("rgb",), ("aux",), ("rgb", "aux")]
    assert confidence == pytest.approx(0.9)
    assert held == (pytest.approx(box), 0.0)
    said = [record.getMessage() for record in caplog.records if "cannot read" in record.getMessage()]
    assert len(said) == 2  # once a channel
    assert "damaged.png" in said[0]


def test_polygons_and_masks_become_their_enclosing_box(monkeypatch, images):
    pair = {channel: images[channel] for channel in ("color", "ir")}
    polygon = trax.Polygon.create([(20.0, 30.0), (60.5, 32.0), (58.0, 71.0), (22.0, 70.0)])
    mask = np.zeros((40, 50), np.uint8)
    mask[5:25, 10:40] = 1
    with conversation(monkeypatch) as talk:
        assert talk.start(pair, polygon)[0] == (20, 30, 40.5, 41)
        assert talk.start(pair, trax.Mask.create(mask, x=3, y=4))[0] == (13, 9, 30, 20)


def test_regions_of_a_client_that_does_not_reduce_them():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 7:12] = 1
    assert enclosing_box(trax.Mask.create(mask, x=3, y=4)) == (10, 9, 5, 4)
    assert enclosing_box(trax.Polygon.create([(1.0, 2.0), (10.0, 3.0), (9.0, 12.5)])) == (1, 2, 9, 10.5)
    assert enclosing_box(rectangle(1, 2, 3, 4)) == (1, 2, 3, 4)
    for nothing in (trax.Mask.create(np.zeros((4, 4), np.uint8)), trax.Special.create(1)):
        with pytest.raises(InputError, match="empty region"):
            enclosing_box(nothing)


@pytest.mark.parametrize(
    ("box", "message"), [((500, 10, 20, 20), "lies outside"), ((10, 10, 0, 20), "has no size")], ids=["outside", "flat"]
)
def test_a_region_that_cannot_be_tracked_ends_the_session_with_the_reason(monkeypatch, images, box, message):
    pair = {channel: images[channel] for channel in ("color", "ir")}
    with conversation(monkeypatch) as talk, pytest.raises(trax.TraxException, match=message):
        talk.start(pair, rectangle(*box))
    assert message in str(talk.error)


def test_a_reason_with_quotation_marks_and_other_scripts_reaches_the_client(monkeypatch, images):
    """The library carries neither: it cuts a reason at a quotation mark and chokes on anything that is not ASCII."""
    pair = {channel: images[channel] for channel in ("color", "ir")}

    def refuse(path: Path) -> None:
        raise InputError('the "größte" image')

    monkeypatch.setattr("duotrack.tracking.vot.read_raw", refuse)
    with conversation(monkeypatch) as talk, pytest.raises(trax.TraxException, match=re.escape("the 'gr??te' image")):
        talk.start(pair, rectangle())
    assert str(talk.error) == 'the "größte" image'


def test_images_of_two_sizes_end_the_session(monkeypatch, images, tmp_path):
    small = tmp_path / "small.png"
    assert cv2.imwrite(str(small), np.zeros((60, 80), np.uint8))
    with conversation(monkeypatch) as talk, pytest.raises(trax.TraxException, match="aux is 80x60 pixels: align them"):
        talk.start({"color": images["color"], "ir": small}, rectangle())


def test_depth_that_is_no_depth_ends_the_session(monkeypatch, images):
    pair = {"color": images["color"], "depth": images["ir"]}
    with (
        conversation(monkeypatch, channels=("color", "depth")) as talk,
        pytest.raises(trax.TraxException, match="pixels have 8 bits"),
    ):
        talk.start(pair, rectangle())


def test_a_message_that_is_no_trax_ends_the_session(monkeypatch, images):
    """A path that is not ASCII: the library of the other side sends it, ours cannot read it."""
    with conversation(monkeypatch) as talk, pytest.raises(trax.TraxException):
        talk.start({"color": images["color"].with_name("größte.png"), "ir": images["ir"]}, rectangle())
    assert "plain ASCII only" in str(talk.error)


def test_what_is_printed_meanwhile_does_not_reach_standard_output(monkeypatch, images, capfd):
    class Talkative(ScriptedNet):
        def __call__(self, **asked):
            print("hello from the network")
            return super().__call__(**asked)

    pair = {channel: images[channel] for channel in ("color", "ir")}
    with conversation(monkeypatch, Talkative()) as talk:
        talk.start(pair, rectangle())
        talk.frame(pair)
    out, err = capfd.readouterr()
    assert out == ""
    assert "hello from the network" in err


def test_a_client_that_vanishes_is_an_error_and_no_hang(monkeypatch):
    with conversation(monkeypatch) as talk:
        talk.vanish()
    assert "the client went away" in str(talk.error)


def test_a_second_object_is_refused(monkeypatch, images):
    """The library's own client does not send one; a message by hand does."""
    with conversation(monkeypatch) as talk:
        region = '@@TRAX:initialize "10.0,10.0,20.0,20.0"\n'
        frame = f'@@TRAX:frame "file://{images["color"]}" "file://{images["ir"]}"\n'
        talk.write(region + region + frame)
        with pytest.raises(trax.TraxException):
            talk.frame(images)
    assert "a further object" in str(talk.error)


def test_a_channel_that_does_not_come_is_missing(images, caplog):
    reader = ChannelReader(("color", "ir"))
    rgb, aux = reader({"color": str(images["color"])})
    assert aux is None
    np.testing.assert_array_equal(rgb, cv2.imread(str(images["color"]))[:, :, ::-1])
    assert "ir: cannot read" in caplog.text


def test_empty_depth_is_missing(tmp_path):
    path = tmp_path / "zero.png"
    assert cv2.imwrite(str(path), np.zeros(SIZE, np.uint16))
    assert ChannelReader(("depth",))({"depth": str(path)}) == (None, None)


def test_names_of_channels():
    assert channels_named("ir,color") == ("color", "ir")
    assert channels_named("depth") == ("depth",)
    for wrong in ("", "color,event", "ir,depth", "color,color", "color,ir,depth"):
        with pytest.raises(InputError, match="are none of 'color'"):
            channels_named(wrong)
