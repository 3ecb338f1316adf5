"""Bodies: strict JSON of bounded depth, checked before anything is done with it; and no unknown parameters."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, RootModel, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, to_json
from starlette.exceptions import HTTPException

from zora_core.api.errors import InvalidJson, ValidationFailed, validation_failed
from zora_core.models import NOT_BLANK as NOT_BLANK

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_ERRORS = 10_000  # that are listed before they are cut: beyond it, listing them alone takes a second
_MAX_INTEGER_BITS = 1024  # what a double can hold; a JSON number beyond it is read differently by every reader


class Body(BaseModel):
    """Base of all bodies: unknown fields are refused, and a number is not taken for a text or the other way round."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _storable_text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("value", "must not contain NUL characters")
    return value


def storable(value: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL's jsonb takes no NUL characters and no numbers that are not finite; ours are not deeper than 32."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                for key in container:
                    _storable_text(key)
            for item in container.values() if isinstance(container, dict) else container:
                if isinstance(item, str):
                    _storable_text(item)
                elif isinstance(item, dict | list):
                    below.append(item)
                elif isinstance(item, float) and not math.isfinite(item):
                    raise PydanticCustomError("value", "must not contain numbers that are not finite")
                elif isinstance(item, int) and item.bit_length() > _MAX_INTEGER_BITS:
                    raise PydanticCustomError("value", "must not contain numbers beyond 1e308")
        if not below:
            return value
        level = below
    raise PydanticCustomError("value", f"must not be nested deeper than {MAX_DEPTH} levels")


def not_blank(value: Any) -> Any:
    """Refuse a text of nothing but space."""
    if isinstance(value, str) and not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def strictly(kind: Any) -> BeforeValidator:
    """Before the models that agents use, which are lenient with types: what a body holds is meant as it stands."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(value: Any) -> Any:
        try:
            return adapter.validate_json(to_json(value), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise PydanticCustomError("value", "{problem}", {"problem": f"{where}: {first['msg']}"}) from error

    return BeforeValidator(check)


async def _read(request: Request) -> bytes:
    """The body, however it is sent, unless it is longer than we take."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 10 or int(length) > MAX_BYTES):
        raise HTTPException(413)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HTTPException(413)
    return bytes(body)


StorableText = Annotated[str, AfterValidator(_storable_text)]
StorableObject = Annotated[dict[str, Any], AfterValidator(storable)]


def json_body(model: type[Model], *, optional: bool = False) -> Any:
    """Declare at a route the model of its body; with `optional`, no body at all is the model's defaults."""

    async def read(request: Request) -> Model:
        body = await _read(request)
        if not body and optional:
            return model()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, "send JSON, and say so: Content-Type: application/json")
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            if error.error_count() > MAX_ERRORS:
                raise ValidationFailed(f"the body has {error.error_count():,} mistakes") from None
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            if errors[0]["type"] == "json_invalid":
                raise InvalidJson(str(errors[0]["msg"]).replace("Invalid JSON", "the body is not JSON")) from None
            if issubclass(model, RootModel):  # a mistake is told by its field, without the kind of body that was chosen
                errors = [{**e, "loc": e["loc"][1:]} for e in errors]
            raise validation_failed(errors) from None

    read.body_model = model  # type: ignore[attr-defined]
    read.body_optional = optional  # type: ignore[attr-defined]
    return Depends(read)


async def _known_parameters(request: Request) -> None:
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            message = f"unknown parameter (known: {', '.join(known) or 'none'})"
        elif times > 1:
            message = f"must appear in the query once, not {times} times"
        else:
            continue
        raise ValidationFailed(f"{name[:100]}: {message}", [{"field": name[:100], "message": message}])


# For a router: a parameter that the route does not know, or that stands twice, is an error and not ignored.
known_parameters = Depends(_known_parameters)
