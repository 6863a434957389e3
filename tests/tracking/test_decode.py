"""Window, decoding and mapping back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duotrack.boxes import cxcywh_to_xywh
from duotrack.models.outputs import HeadMaps
from duotrack.tracking.decode import decode_maps, find_peaks, hann_window, map_back, peaks_by_numpy, peaks_by_torch
from reference import golden_file


def test_window_equals_the_reference():
    np.testing.assert_allclose(hann_window(16, 16), golden_file("ckd_g_targets")["hann16"], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (12, 12), (6, 16), (24, 24)])
def test_window_is_positive_and_symmetric(height, width):
    window = hann_window(height, width)
    assert window.shape == (height, width)
    assert window.dtype == torch.float32
    assert (window > 0).all()
    torch.testing.assert_close(window, window.flip(0, 1))


def test_reference_boxes_are_decoded():
    """`pred_boxes` of the reference forward pass is decoded from its score map without a window."""
    golden = {
        name: torch.from_numpy(array) for name, array in golden_file("ckd_a_mce").items() if name.endswith("_map")
    }
    boxes = decode_maps(golden["score_map"], golden["size_map"], golden["offset_map"])
    np.testing.assert_allclose(boxes, golden_file("ckd_a_mce")["pred_boxes"][:, 0], atol=1e-5)


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    data=st.data(),
)
def test_the_cell_and_its_offset_give_the_centre(height, width, data):
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    score = torch.full((1, 1, height, width), 0.1)
    score[0, 0, row, column] = 0.9
    size, offset = torch.rand(1, 2, height, width), torch.rand(1, 2, height, width)
    box = decode_maps(score, size, offset)[0]
    expected_x = (column + offset[0, 0, row, column]) / width
    expected_y = (row + offset[0, 1, row, column]) / height
    torch.testing.assert_close(box, torch.tensor([expected_x, expected_y, *size[0, :, row, column]]))


def test_first_maximum_wins_and_batches_are_apart():
    score = torch.zeros(2, 1, 4, 4)
    score[0, 0, 1, 2] = score[0, 0, 3, 0] = 0.5
    score[1, 0, 2, 3] = 0.5
    maps = torch.zeros(2, 2, 4, 4)
    torch.testing.assert_close(decode_maps(score, maps, maps)[:, :2], torch.tensor([[0.5, 0.25], [0.75, 0.5]]))


def test_the_window_chooses_and_the_map_scores():
    score = torch.full((1, 1, 5, 5), 0.1)
    score[0, 0, 0, 0], score[0, 0, 2, 2] = 0.8, 0.7
    maps = HeadMaps(score_map=score, size_map=torch.full((1, 2, 5, 5), 0.25), offset_map=torch.zeros(1, 2, 5, 5))
    peak = find_peaks(maps, hann_window(5, 5))[0]
    assert peak.score == pytest.approx(0.7)
    np.testing.assert_allclose(peak.box, [0.4, 0.4, 0.25, 0.25], atol=1e-6)
    assert peak.box.dtype == np.float64


@given(
    previous=st.tuples(*[st.floats(-50, 600)] * 2, *[st.floats(1, 200)] * 2),
    peak=st.tuples(*[st.floats(0, 1)] * 4),
    resize_factor=st.floats(0.1, 20),
)
def test_mapping_back_inverts_the_search_crop(previous, peak, resize_factor):
    """Put through the crop again (centre of the crop at S / 2), the box is where it was decoded."""
    size = 256
    found = map_back(np.array(peak), np.array(previous), size=size, resize_factor=resize_factor)
    centre = found[:2] + found[2:] / 2
    around = np.add(previous[:2], np.divide(previous[2:], 2))
    again = np.concatenate([(centre - around) * resize_factor + size / 2, found[2:] * resize_factor]) / size
    np.testing.assert_allclose(
        cxcywh_to_xywh(again), cxcywh_to_xywh(np.array(peak)), atol=1e-9 * max(1, resize_factor) * 100
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 6, 16), (1, 1, 1)])
def test_peaks_by_numpy_are_those_of_torch_bit_by_bit(shape, dtype):
    samples, height, width = shape
    draw = torch.Generator().manual_seed(4)
    score, size, offset = (
        torch.rand(samples, channels, height, width, generator=draw).to(dtype) for channels in (1, 2, 2)
    )
    if samples == 3:
        score[1, 0, 4, 4] = float("nan")
    maps = HeadMaps(score_map=score, size_map=size, offset_map=offset)
    window = hann_window(height, width)
    for ours, theirs in zip(peaks_by_numpy(maps, window), peaks_by_torch(maps, window), strict=True):
        np.testing.assert_array_equal(ours.box, theirs.box)
        np.testing.assert_array_equal(ours.score, theirs.score)
        np.testing.assert_array_equal(ours.highest, theirs.highest)
        assert not ours.highest < ours.score


@pytest.mark.parametrize("find", [peaks_by_numpy, peaks_by_torch])
def test_the_windowed_score_is_the_response_at_the_chosen_cell(find) -> None:
    torch.manual_seed(2)
    score = torch.rand(3, 1, 5, 4)
    maps = HeadMaps(score_map=score, size_map=torch.rand(3, 2, 5, 4), offset_map=torch.rand(3, 2, 5, 4))
    window = hann_window(5, 4)
    for sample, peak in enumerate(find(maps, window)):
        assert peak.windowed == pytest.approx(float((score[sample] * window).max()), abs=1e-7)
        assert peak.windowed <= peak.score <= peak.highest
