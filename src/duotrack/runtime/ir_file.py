"""Looking into an OpenVINO IR file without the library: its metadata, and whether it is such a file at all."""

from pathlib import Path
from xml.parsers import expat

from duotrack.errors import InputError
from duotrack.runtime.graph_facts import GraphFacts, read_facts

KEYS = ["duotrack", "facts"]
"""Where the metadata stand in what OpenVINO calls the runtime information of a model."""

_PLACE = ["net", "rt_info", *KEYS]


class _DeclarationError(Exception):
    pass


def read_ir_facts(path: Path) -> GraphFacts:
    """What an exported IR file (`.xml`, its weights beside it as `.bin`) says of itself.

    Raises:
        InputError: no such file or no weights beside it, no IR, or as `read_facts`.
    """
    if not path.is_file():
        raise InputError(f"no exported network at {path}; check the path")
    if not path.with_suffix(".bin").is_file():
        raise InputError(f"{path} lies without its weights {path.with_suffix('.bin').name}: keep the two together")
    return read_facts(_facts_text(path), str(path))


def _facts_text(path: Path) -> str | None:
    place: list[str] = []
    found: list[str | None] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        place.append(name)
        if place == _PLACE:
            found.append(attributes.get("value"))

    def refuse(*_: object) -> None:
        raise _DeclarationError("a document type, which exports do not have")  # it could declare entities

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda name: place.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, _DeclarationError) as error:
        raise InputError(f"{path} cannot be read as OpenVINO IR ({error}); export it again") from error
    return found[0] if found else None
