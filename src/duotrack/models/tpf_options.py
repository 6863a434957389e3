"""What a TPF network is built from: written into files of weights, read from them and from recipes.

The numbers and switches are ours; the paper names none (docs/specs/tpf.md, sections 3, 5 and 9). The limits keep a file
from asking for a network that no machine could hold.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AdapterOptions(BaseModel):
    """Everything that decides what a pixel-level fusion adapter computes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["y", "stacked"] = Field(
        default="y", description="y: a block a modality, one on what is merged; stacked: merge first, then three blocks"
    )
    width: int = Field(default=32, ge=2, le=512, multiple_of=2, description="channels of the features, even")
    stride: Literal[2, 4, 8, 16] = Field(default=4, description="pixels a token")
    thermal_channels: Literal[1, 3] = Field(
        default=1, description="1: the mean of the auxiliary image's channels; 3: all of them"
    )
    d_state: int = Field(default=16, ge=1, le=256, description="states a channel")
    expand: int = Field(default=2, ge=1, le=8, description="inner width of a block over its width")
    d_conv: int = Field(default=4, ge=1, le=16, description="kernel of the causal convolution, scan bi")
    scan: Literal["bi", "cross"] = Field(
        default="bi", description="bi: the tokens and their reverse; cross: rows and columns, each both ways"
    )
    halve: bool = Field(default=True, description="scan bi: the mean of both directions, not their sum")


class TPFOptions(BaseModel):
    """Everything that decides what a TPF network computes, beyond its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: AdapterOptions = AdapterOptions()
    level: Literal["backbone", "pfa"] = "backbone"
    """Which features the relevance gate splits: the tracker's search tokens, or the adapter's merged map."""
    bottleneck: int | None = Field(default=None, ge=1, le=4096)
    """Width inside the gate; None: there is no gate."""
    gate_answers: bool = True
    """Whether the gated part is what answers; else the gate serves training losses only."""
