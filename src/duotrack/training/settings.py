"""What all configuration shares: frozen, no unknown keys, and errors a person can act on."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from duotrack.errors import InputError, nearest


class Settings(BaseModel):
    """Base of every configuration model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], data: Mapping[str, Any], *, source: str) -> Model:
    """Validate `data` as `model`.

    Raises:
        InputError: names the source, the dotted key, what was got, and the nearest known key or the rule broken.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, [str(part) for part in first["loc"][:-1]])
            raise InputError(f"{source}: unknown key {key!r}{_hint(first['loc'], known)}{more}") from error
        got = "" if first["type"] == "missing" else f", got {_short(first['input'])}"
        raise InputError(f"{source}: {key or 'recipe'}: {first['msg']}{got}{more}") from error


def _hint(location: tuple[int | str, ...], known: list[str]) -> str:
    return nearest(str(location[-1]), known) if known else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the model found at `path` below `model`."""
    for part in path:
        field = model.model_fields.get(part)
        if field is None:
            return []
        inner = [a for a in (field.annotation, *get_args(field.annotation)) if _is_model(a)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
