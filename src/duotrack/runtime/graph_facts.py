"""What a graph is: which images it takes, and whose network it holds; this is the metadata of an exported file."""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from duotrack.depth import Colours
from duotrack.errors import InputError
from duotrack.frames import Kind, Modality
from duotrack.models.zoo import Geometry

FORMAT = 1
"""Raised whenever files of before can no longer be used."""

MAPS = ("score_map", "size_map", "offset_map")
BOTH: tuple[Modality, Modality] = ("rgb", "aux")
OTHER_GRAPH = "holds another graph than its metadata say; export it again"
_MAX_METADATA = 100_000

_Names = Annotated[tuple[Modality, ...], Field(min_length=1, max_length=2)]
_Text = Annotated[str, Field(max_length=200)]
_Side = Annotated[int, Field(ge=16, le=2048)]
_Factor = Annotated[float, Field(gt=0, le=32, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Wanted:
    """Which images a graph takes: names of modalities, in the order (rgb, aux); `masked` adds the input `present`."""

    template: tuple[Modality, ...]
    search: tuple[Modality, ...]
    masked: bool = False

    def input_names(self) -> list[str]:
        """Names of the graph's inputs in their order."""
        images = [f"template_{name}" for name in self.template] + [f"search_{name}" for name in self.search]
        return [*images, "present"] if self.masked else images


class _Sizes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    template_size: _Side
    search_size: _Side
    template_factor: _Factor
    search_factor: _Factor
    stride: Annotated[int, Field(ge=1, le=64)]
    rim: Annotated[float, Field(ge=0, le=1)] = 1.0
    window: Annotated[float, Field(ge=0, le=4)] = 1.0
    unbias: Annotated[float, Field(ge=0, le=1)] = 0.0


class GraphFacts(BaseModel):
    """Everything that tracking with a graph needs to know; `task` and `depth_colours` as far as its weights say."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    model: _Text
    geometry: _Sizes
    calibration: tuple[_Finite, _Finite]
    elimination: _Text
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    template: _Names
    search: _Names
    masked: bool
    keeps: bool
    either: bool
    batch: Annotated[int, Field(ge=0, le=4096)]
    made_by: dict[_Text, _Text]
    task: Kind | None = None
    depth_colours: Colours | None = None

    @property
    def wanted(self) -> Wanted:
        """Which images the graph takes."""
        return Wanted(self.template, self.search, self.masked)

    @property
    def sizes(self) -> Geometry:
        """Geometry of the crops."""
        return Geometry(**self.geometry.model_dump())

    def output_names(self) -> list[str]:
        """Names of the graph's outputs: the maps, and the template's tokens where they can be kept."""
        return [*MAPS, *(f"tokens_{name}" for name in self.template if self.keeps)]

    def input_shapes(self, batch: int) -> dict[str, list[int]]:
        """Name of each input -> its shape for so many samples."""
        sides = {"template": self.geometry.template_size, "search": self.geometry.search_size}
        return {
            name: [batch, 2] if name == "present" else [batch, 3, *[sides[name.partition("_")[0]]] * 2]
            for name in self.wanted.input_names()
        }

    def text(self) -> str:
        """As it is written into files."""
        return self.model_dump_json()


def facts(
    *,
    model: str,
    geometry: Geometry,
    calibration: tuple[float, float],
    elimination: str,
    precision: str,
    wanted: Wanted,
    keeps: bool,
    either: bool,
    batch: int,
    made_by: dict[str, str],
    task: Kind | None = None,
    depth_colours: Colours | None = None,
) -> GraphFacts:
    """Facts of a graph that is being made; see `GraphFacts` and `duotrack.runtime.deploy.deploy`."""
    return GraphFacts(
        format=FORMAT,
        model=model,
        geometry=_Sizes(**vars(geometry)),
        calibration=calibration,
        elimination=elimination,
        precision=precision,  # type: ignore[arg-type]  # pydantic checks
        template=wanted.template,
        search=wanted.search,
        masked=wanted.masked,
        keeps=keeps,
        either=either,
        batch=batch,
        made_by=made_by,
        task=task,
        depth_colours=depth_colours,
    )


def read_facts(text: str | None, source: str) -> GraphFacts:
    """Facts from the metadata of a file called `source`, which anybody may have written.

    Raises:
        InputError: none, of another format (a stale export), or not what an export says.
    """
    again = "make it with `duotrack export`"
    if text is None:
        raise InputError(f"{source} is no export of duotrack: it says neither model nor geometry; {again}")
    try:
        plain = json.loads(text) if len(text) <= _MAX_METADATA else None
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict) or not isinstance(plain.get("format"), int):
        raise InputError(f"{source} has damaged metadata; {again}")
    if plain["format"] != FORMAT:
        raise InputError(
            f"{source} is a stale export: its format is {plain['format']}, this version reads {FORMAT}; {again} again"
        )
    try:
        found = GraphFacts.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{source} has metadata that cannot be used ({where}: {first['msg']}); {again}") from error
    ordered = all(names in (BOTH, BOTH[:1], BOTH[1:]) for names in (found.template, found.search))
    if not ordered or (found.masked and found.search != BOTH) or (found.keeps and found.template != found.search):
        raise InputError(f"{source} has metadata that contradict themselves; {again}")
    return found
