"""Values of CSS properties: variables substituted, lengths and math functions calculated."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import tinycss2

VIEWPORT_WIDTH = 1280.0
VIEWPORT_HEIGHT = 720.0

# A calculated value: the number, and 1 for a length in pixels or 0 for a plain number (CSS Values 4, 10.2 types).
Amount = tuple[float, int]

_MAX_VALUE_CHARACTERS = 20_000
_MAX_DEPTH = 24
# Brackets within brackets; tinycss2 writes them out recursively.
_MAX_BRACKETS = 64
_ABSOLUTE = {
    "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "q": 96 / 101.6,
}  # fmt: skip
_VIEWPORT = {
    "vw": VIEWPORT_WIDTH / 100,
    "vh": VIEWPORT_HEIGHT / 100,
    "vi": VIEWPORT_WIDTH / 100,
    "vb": VIEWPORT_HEIGHT / 100,
    "vmin": VIEWPORT_HEIGHT / 100,
    "vmax": VIEWPORT_WIDTH / 100,
}
_CONSTANTS = {"pi": math.pi, "e": math.e, "infinity": math.inf, "-infinity": -math.inf}


def tokens_of(value: str) -> list[Any]:
    """The component values of a text, without comments."""
    found: list[Any] = tinycss2.parse_component_value_list(value, skip_comments=True)
    return found


def bare(tokens: Sequence[Any]) -> list[Any]:
    """Tokens without white space and comments."""
    return [token for token in tokens if token.type not in {"whitespace", "comment"}]


def split(tokens: Sequence[Any], separator: str) -> list[list[Any]]:
    """The parts of a list of tokens between commas or slashes on its top level."""
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if token.type == "literal" and token.value == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def too_deep(text: str) -> bool:
    """Whether brackets stand in each other deeper than any style sheet needs; those in strings count, too."""
    if sum(map(text.count, "([{")) <= _MAX_BRACKETS:
        return False
    depth = deepest = 0
    for bracket in re.findall(r"[\[\](){}]", text):
        depth = depth + 1 if bracket in "([{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest > _MAX_BRACKETS


def tokens_too_deep(token: Any) -> bool:
    """Whether blocks and functions inside a rule stand in each other too deep."""
    stack = [(token, 0)]
    while stack:
        place, depth = stack.pop()
        if depth > _MAX_BRACKETS:
            return True
        for inside in (getattr(place, name, None) for name in ("prelude", "content", "arguments")):
            stack.extend((inner, depth + 1) for inner in inside or () if not isinstance(inner, str))
    return False


def text_of(tokens: Sequence[Any]) -> str:
    """Tokens as text, trimmed."""
    return str(tinycss2.serialize(tokens)).strip()


# ---- variables


def substitute(value: str, variables: Mapping[str, str]) -> str | None:
    """The value with `var()` and `env()` replaced; None where a variable has neither a value nor a fallback.

    `variables` holds computed values: custom properties of the element and its ancestors (CSS Variables 1, 3).
    """
    lowered = value.lower()
    if "var(" not in lowered and "env(" not in lowered:
        return value
    if len(value) > _MAX_VALUE_CHARACTERS:
        return None
    found = _substituted(tokens_of(value), variables, 0)
    return found if found is not None and len(found) <= _MAX_VALUE_CHARACTERS and not too_deep(found) else None


def _substituted(tokens: Sequence[Any], variables: Mapping[str, str], depth: int) -> str | None:
    if depth > _MAX_DEPTH:
        return None
    parts: list[str] = []
    for token in tokens:
        part: str | None
        if token.type == "function" and token.lower_name in {"var", "env"}:
            part = _variable(token, variables, depth)
        elif token.type == "function":
            inner = _substituted(token.arguments, variables, depth + 1)
            part = None if inner is None else f"{token.name}({inner})"
        elif token.type in {"() block", "[] block", "{} block"}:
            inner = _substituted(token.content, variables, depth + 1)
            part = None if inner is None else f"{token.type[0]}{inner}{token.type[1]}"
        else:
            part = str(tinycss2.serialize([token]))
        if part is None:
            return None
        parts.append(part)
    return "".join(parts)


def _variable(token: Any, variables: Mapping[str, str], depth: int) -> str | None:
    name, *fallback = split(token.arguments, ",")
    wanted = text_of(name)
    if token.lower_name == "var" and wanted in variables:
        return variables[wanted]
    if not fallback:
        return "0px" if token.lower_name == "env" else None
    rest = token.arguments[len(name) + 1 :]
    return _substituted(rest, variables, depth + 1)


# ---- lengths


@lru_cache(maxsize=8192)
def length_px(value: str, font_px: float, percent_of: float | None = None, root_px: float = 16.0) -> float | None:
    """A CSS length in pixels, or None where it is not a length or depends on what is not known.

    `percent_of` is the length that 100 % means; `font_px` and `root_px` are the sizes that `em` and `rem` mean.
    """

    def unit(token: Any) -> Amount | None:
        if token.type == "percentage":
            return None if percent_of is None else (token.value * percent_of / 100, 1)
        if token.type != "dimension":
            return None
        name = token.lower_unit
        if name in {"em", "rem", "ex", "rex", "ch", "rch"}:
            size = root_px if name.startswith("r") else font_px
            return token.value * size / (2 if name[-1] in "xh" else 1), 1
        if name in _ABSOLUTE:
            return token.value * _ABSOLUTE[name], 1
        if name[:1] in {"s", "d", "l"} and name[1:] in _VIEWPORT:
            name = name[1:]
        return (token.value * _VIEWPORT[name], 1) if name in _VIEWPORT else None

    tokens = bare(tokens_of(value)) if value else []
    if len(tokens) != 1:
        return None
    if tokens[0].type == "number":
        return 0.0 if tokens[0].value == 0 else None
    found = calculate(tokens, unit)
    return found[0] if found is not None and found[1] == 1 and math.isfinite(found[0]) else None


@lru_cache(maxsize=8192)
def number(value: str) -> float | None:
    """A number or a percentage (100 % is 1), calculated; None where it is neither."""

    def unit(token: Any) -> Amount | None:
        return (token.value / 100, 0) if token.type == "percentage" else None

    tokens = bare(tokens_of(value)) if value else []
    found = calculate(tokens, unit) if len(tokens) == 1 else None
    return found[0] if found is not None and found[1] == 0 and math.isfinite(found[0]) else None


# ---- math functions


def calculate(tokens: Sequence[Any], unit: Callable[[Any], Amount | None]) -> Amount | None:
    """The value of a sum as `calc()` takes it (CSS Values 4, 10); None where part of it is not known.

    `unit` says what a dimension, a percentage or a keyword amounts to.
    """
    return _Sum(bare(tokens), unit, 0).value()


class _Sum:
    def __init__(self, tokens: list[Any], unit: Callable[[Any], Amount | None], depth: int) -> None:
        self._tokens = tokens
        self._unit = unit
        self._depth = depth
        self._place = 0

    def value(self) -> Amount | None:
        found = self._sum() if self._tokens and self._depth <= _MAX_DEPTH else None
        return found if self._place == len(self._tokens) else None

    def _operator(self, *signs: str) -> str:
        token = self._tokens[self._place] if self._place < len(self._tokens) else None
        if token is not None and token.type == "literal" and token.value in signs:
            self._place += 1
            return str(token.value)
        return ""

    def _sum(self) -> Amount | None:
        left = self._product()
        while left is not None and (sign := self._operator("+", "-")):
            right = self._product()
            if right is None or right[1] != left[1]:
                return None
            left = (left[0] + right[0] * (1 if sign == "+" else -1), left[1])
        return left

    def _product(self) -> Amount | None:
        left = self._single()
        while left is not None and (sign := self._operator("*", "/")):
            right = self._single()
            if right is None or (sign == "/" and (right[1] or right[0] == 0)) or left[1] + right[1] > 1:
                return None
            left = (left[0] * right[0] if sign == "*" else left[0] / right[0], left[1] + right[1])
        return left

    def _single(self) -> Amount | None:
        if self._place >= len(self._tokens):
            return None
        token = self._tokens[self._place]
        self._place += 1
        if token.type == "number":
            return float(token.value), 0
        if token.type == "() block":
            return _Sum(bare(token.content), self._unit, self._depth + 1).value()
        if token.type == "function":
            return self._function(token)
        if token.type == "ident" and token.lower_value in _CONSTANTS:
            return _CONSTANTS[token.lower_value], 0
        return self._unit(token)

    def _function(self, token: Any) -> Amount | None:
        name = token.lower_name.removeprefix("-webkit-")
        arguments = [bare(part) for part in split(token.arguments, ",")]
        if name == "clamp" and len(arguments) == 3:
            low, wanted, high = (
                [None] if text_of(part).lower() == "none" else [self._inner(part)] for part in arguments
            )
            return _clamped(arguments, low[0], wanted[0], high[0])
        strategy = "nearest"
        if name == "round" and arguments and text_of(arguments[0]) in {"nearest", "up", "down", "to-zero"}:
            strategy = text_of(arguments.pop(0))
        amounts = [self._inner(part) for part in arguments]
        known = [amount for amount in amounts if amount is not None]
        if not known or len(known) != len(amounts):
            return None
        return _applied(name, strategy, known)

    def _inner(self, tokens: list[Any]) -> Amount | None:
        return _Sum(tokens, self._unit, self._depth + 1).value()


def _clamped(
    arguments: list[list[Any]], low: Amount | None, wanted: Amount | None, high: Amount | None
) -> Amount | None:
    if wanted is None:
        return None
    value = wanted
    for place, limit, pick in ((2, high, min), (0, low, max)):
        if text_of(arguments[place]).lower() == "none":
            continue
        if limit is None or limit[1] != value[1]:
            return None
        value = (pick(value[0], limit[0]), value[1])
    return value


def _applied(name: str, strategy: str, amounts: list[Amount]) -> Amount | None:
    values, kinds = [a[0] for a in amounts], {a[1] for a in amounts}
    kind = amounts[0][1]
    if len(kinds) > 1:
        return None
    try:
        match name, values:
            case "calc", [value]:
                return value, kind
            case "min" | "max", _:
                return (min if name == "min" else max)(values), kind
            case "abs", [value]:
                return abs(value), kind
            case "sign", [value]:
                return float((value > 0) - (value < 0)), 0
            case "round", [value, *step]:
                return _rounded(value, step[0] if step else 1.0, strategy), kind
            case "mod", [value, by]:
                return value - by * math.floor(value / by), kind
            case "rem", [value, by]:
                return math.fmod(value, by), kind
            case "hypot", _:
                return math.hypot(*values), kind
            case (("sqrt" | "exp"), [value]) if kind == 0:
                return (math.sqrt if name == "sqrt" else math.exp)(value), 0
            case "pow", [value, power] if kind == 0:
                return float(value**power), 0
            case "log", [value, *base] if kind == 0:
                return math.log(value, *base), 0
    except (ValueError, ZeroDivisionError, OverflowError, TypeError):
        return None
    return None


def _rounded(value: float, step: float, strategy: str) -> float:
    parts = value / step
    rounded = {
        "nearest": math.floor(parts + 0.5),
        "up": math.ceil(parts),
        "down": math.floor(parts),
        "to-zero": math.trunc(parts),
    }[strategy]
    return rounded * step
