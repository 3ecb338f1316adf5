"""Bodies: strict JSON of bounded depth, checked before anything is done with it."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from zora_core.api.errors import InvalidJson, validation_failed

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
_MAX_INTEGER_BITS = 1024  # what a double can hold; a JSON number beyond it is read differently by every reader


class Body(BaseModel):
    """Base of all bodies: unknown fields are refused, and a number is not taken for a text or the other way round."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _storable_text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("value", "must not contain NUL characters")
    return value


def _storable(value: dict[str, Any]) -> dict[str, Any]:
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


StorableText = Annotated[str, AfterValidator(_storable_text)]
StorableObject = Annotated[dict[str, Any], AfterValidator(_storable)]


def json_body(model: type[Model], *, optional: bool = False) -> Any:
    """Declare at a route the model of its body; with `optional`, no body at all is the model's defaults."""

    async def read(request: Request) -> Model:
        body = await request.body()
        if not body and optional:
            return model()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, "send JSON, and say so: Content-Type: application/json")
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            if errors[0]["type"] == "json_invalid":
                raise InvalidJson(str(errors[0]["msg"]).replace("Invalid JSON", "the body is not JSON")) from None
            raise validation_failed(errors) from None

    read.body_model = model  # type: ignore[attr-defined]
    read.body_optional = optional  # type: ignore[attr-defined]
    return Depends(read)
