"""Made-up video."""

import numpy as np

from duotrack.video import open_source
from duotrack.video.made import scene, write_clip


def test_both_modalities_show_the_same_moving_thing():
    rgb, aux = (list(scene((96, 64), 8, name)) for name in ("rgb", "aux"))
    assert [box for _, box in rgb] == [box for _, box in aux]
    assert len({box for _, box in rgb}) > 4
    for image, (x, y, w, h) in rgb:
        assert image.shape == (64, 96, 3)
        assert 0 <= x <= 96 - w
        assert 0 <= y <= 64 - h
        assert image[y : y + h, x : x + w].mean() > image.mean() + 30
    thermal = aux[0][0]
    np.testing.assert_array_equal(thermal[..., 0], thermal[..., 2])
    assert (rgb[0][0][..., 0] != rgb[0][0][..., 2]).any()


def test_a_clip_is_a_video_of_the_scene(tmp_path):
    box = write_clip(tmp_path / "rgb.mp4", size=(96, 64), frames=5, modality="rgb")
    images = [image for image, _ in scene((96, 64), 5, "rgb")]
    with open_source(tmp_path / "rgb.mp4", None) as source:
        frames = [pair.rgb for pair in source]
    assert box == next(scene((96, 64), 5, "rgb"))[1]
    assert len(frames) == 5
    for image, frame in zip(images, frames, strict=True):
        assert np.abs(image.astype(int) - frame).mean() < 12
