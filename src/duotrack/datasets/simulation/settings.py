"""What simulated scenes hold, and how often."""

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Scenes(BaseModel):
    """Frames, and the shares of scenes with each difficulty."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width: int = Field(default=320, ge=64, le=2048, description="Columns of a rendered frame.")
    height: int = Field(default=256, ge=64, le=2048, description="Rows of a rendered frame.")
    smallest: float = Field(
        default=5.0,
        ge=3,
        description="Smallest target, in pixels: the square root of its box's area; the frame's shorter side at most.",
    )
    largest: float = Field(
        default=0.5, gt=0, le=1, description="Largest target, of the frame's shorter side; sizes are log-uniform."
    )
    procedural: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Share of backgrounds and objects that are drawn though pictures are given.",
    )
    regions: float = Field(
        default=0.2, ge=0, le=1, description="Share of objects that are random regions of a background picture."
    )
    framed: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the other objects that bring what is behind them in their box along, as a crop does.",
    )
    sky: float = Field(default=0.15, ge=0, le=1, description="Share of scenes with a small target before a sky.")
    distractors: float = Field(
        default=0.65, ge=0, le=1, description="Share of scenes with objects of the target's own class about it."
    )
    twins: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Share of such objects that are the target's own picture, often recoloured.",
    )
    recolour: float = Field(default=0.5, ge=0, le=1, description="Share of objects whose colours change much.")
    occlusion: float = Field(
        default=0.35, ge=0, le=1, description="Share of scenes in which something hides the target."
    )
    leaves: float = Field(
        default=0.1, ge=0, le=1, description="Share of scenes in which the target may leave the picture."
    )
    camera: float = Field(default=0.7, ge=0, le=1, description="Share of scenes with a moving camera.")
    fast: float = Field(default=0.15, ge=0, le=1, description="Share of scenes with a fast target or a jerking camera.")
    night: float = Field(default=0.22, ge=0, le=1, description="Share of scenes with a dark, noisy visible picture.")
    light: float = Field(
        default=0.35, ge=0, le=1, description="Share of scenes whose visible light changes; some have glare or fog."
    )
    blur: float = Field(
        default=0.35, ge=0, le=1, description="Share of scenes with motion blur, defocus or compression in the visible."
    )
    crossover: float = Field(
        default=0.2, ge=0, le=1, description="Share of scenes in which the target is as warm as what is behind it."
    )
    thermal_damage: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="Share of scenes with strong noise, stripes or low contrast in the thermal.",
    )
    freezes: float = Field(default=0.03, ge=0, le=1, description="Share of frames in a frozen stretch of one camera.")
    misalignment: float = Field(
        default=0.7,
        ge=0,
        le=50,
        description="Pixels that the thermal camera is off, as a standard deviation; at 320 columns.",
    )

    @field_validator("smallest")
    @classmethod
    def _fits(cls, smallest: float, info: ValidationInfo) -> float:
        sides = [info.data[name] for name in ("width", "height") if name in info.data]
        if sides and smallest > min(sides):
            raise PydanticCustomError(
                "larger_than_the_frame",
                "Input should be at most the frame's shorter side, {side} pixels",
                {"side": min(sides)},
            )
        return smallest


class Simulation(BaseModel):
    """Simulated pairs as a source of training; pictures come from --photos and --cutouts, else all is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ratio: float = Field(
        default=0.0, ge=0, le=1000, description="pairs simulated for each pair from one --data folder; 0 = off"
    )
    max_gap: int = Field(
        default=120, ge=1, le=10_000, description="frames, 30 a second, from the template to the search frame at most"
    )
    dropouts: float = Field(default=0.0, ge=0, le=1, description="share of simulated pairs that lack one modality")
    memory: int = Field(
        default=1024, ge=64, description="megabytes of pictures held; of more files an even choice is used"
    )
    scenes: Scenes = Field(default_factory=Scenes, description="what the scenes hold")
