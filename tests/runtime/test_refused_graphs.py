"""Networks that no graph can be made of."""

import pytest
import torch
from torch import Tensor, nn

from duotrack.errors import InputError
from duotrack.models.outputs import HeadMaps
from duotrack.models.zoo import model_spec
from duotrack.runtime.convert import describe, to_onnx, to_openvino
from duotrack.runtime.graph_facts import BOTH, Wanted


class Undecided(nn.Module):
    """Looks at values to decide what it computes, which no graph can hold."""

    elimination = "none"

    def forward(self, *, template: object, search: tuple[Tensor, Tensor], available: object) -> HeadMaps:
        if float(search[0].mean()) > 0:
            return HeadMaps(search[0], search[0], search[0])
        return HeadMaps(search[1], search[1], search[1])


@pytest.mark.parametrize(("make", "library"), [(to_onnx, "onnxscript"), (to_openvino, "openvino")])
def test_a_network_without_a_graph_is_refused_in_one_line(make, library: str) -> None:
    pytest.importorskip(library)
    about = describe(Undecided(), model_spec("ckd-tiny"), Wanted(BOTH, BOTH), precision="fp32", batch=1)
    with pytest.raises(InputError, match="ckd-tiny cannot be written as a graph") as refusal, torch.no_grad():
        make(Undecided().eval(), about)
    assert "\n" not in str(refusal.value)
