"""Whether the conditions of `@media` and `@supports` hold.

Media Queries 5 for a light screen of 1280 by 720 pixels with a mouse and no user preferences; `@supports` as in
browsers of 2024 and later. A condition holds, does not hold, or cannot be told (None).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from zora_core.data import load
from zora_core.skills.css.contrast import valid_colour
from zora_core.skills.css.values import (
    VIEWPORT_HEIGHT,
    VIEWPORT_WIDTH,
    Amount,
    bare,
    calculate,
    length_px,
    split,
    text_of,
    tokens_of,
)

Answer = bool | None

_NUMBERS = {
    "width": VIEWPORT_WIDTH,
    "height": VIEWPORT_HEIGHT,
    "device-width": VIEWPORT_WIDTH,
    "device-height": VIEWPORT_HEIGHT,
    "aspect-ratio": VIEWPORT_WIDTH / VIEWPORT_HEIGHT,
    "device-aspect-ratio": VIEWPORT_WIDTH / VIEWPORT_HEIGHT,
    "resolution": 1.0,
    "-webkit-device-pixel-ratio": 1.0,
    "color": 8.0,
    "color-index": 0.0,
    "monochrome": 0.0,
    "horizontal-viewport-segments": 1.0,
    "vertical-viewport-segments": 1.0,
    "grid": 0.0,
    "-webkit-transform-3d": 1.0,
}
_WORDS = {
    "orientation": {"landscape"},
    "hover": {"hover"},
    "any-hover": {"hover"},
    "pointer": {"fine"},
    "any-pointer": {"fine"},
    "prefers-color-scheme": {"light"},
    "prefers-reduced-motion": {"no-preference"},
    "prefers-reduced-transparency": {"no-preference"},
    "prefers-reduced-data": {"no-preference"},
    "prefers-contrast": {"no-preference"},
    "forced-colors": {"none"},
    "inverted-colors": {"none"},
    "update": {"fast"},
    "overflow-block": {"scroll"},
    "overflow-inline": {"scroll"},
    "scan": {"progressive"},
    "display-mode": {"browser"},
    "scripting": {"enabled"},
    "color-gamut": {"srgb"},
    "dynamic-range": {"standard"},
    "video-dynamic-range": {"standard"},
    "device-posture": {"continuous"},
}
# Words that mean "no" where a feature stands alone in its brackets (Media Queries 5, 2.4.2).
_NO = frozenset({"none", "no-preference"})
_RESOLUTIONS = {"dppx": 1.0, "x": 1.0, "dpi": 1 / 96, "dpcm": 2.54 / 96}


def media_applies(query: str) -> bool:
    """Whether any query of a media query list holds."""
    tokens = bare(tokens_of(query))
    return not tokens or any(_query(part) is True for part in split(tokens, ","))


def _query(tokens: list[Any]) -> Answer:
    words = [token.lower_value if token.type == "ident" else None for token in tokens]
    if not tokens or words[0] is None or (words[0] == "not" and (len(words) < 2 or words[1] is None)):
        return _condition(tokens, _media_feature, 0)
    negated = words[0] == "not"
    start = 1 if words[0] in {"not", "only"} else 0
    kind = words[start] if start < len(words) else None
    answer: Answer = kind in {"all", "screen"}
    if len(tokens) > start + 1:
        if words[start + 1] != "and":
            return None
        answer = _both(answer, _condition(tokens[start + 2 :], _media_feature, 0))
    return _not(answer) if negated else answer


def supports(condition: str) -> Answer:
    """Whether a browser supports what an `@supports` condition asks for."""
    return _condition(bare(tokens_of(condition)), _supported, 0)


def _condition(tokens: Sequence[Any], leaf: Callable[[Any], Answer], depth: int) -> Answer:
    """`not`, `and` and `or` with brackets, over what `leaf` says of one pair of brackets or one function."""
    if not tokens or depth > 20:
        return None
    if tokens[0].type == "ident" and tokens[0].lower_value == "not":
        return _not(_condition(tokens[1:], leaf, depth + 1))
    answer = _bracket(tokens[0], leaf, depth)
    word = ""
    for place in range(1, len(tokens) - 1, 2):
        joined = tokens[place].lower_value if tokens[place].type == "ident" else ""
        if joined not in {"and", "or"} or (word and joined != word):
            return None
        word = joined
        other = _bracket(tokens[place + 1], leaf, depth)
        answer = _both(answer, other) if word == "and" else _either(answer, other)
    return answer if len(tokens) % 2 else None


def _bracket(token: Any, leaf: Callable[[Any], Answer], depth: int) -> Answer:
    if token.type == "() block":
        inner = bare(token.content)
        nested = inner and (
            inner[0].type in {"() block", "function"} or (inner[0].type == "ident" and inner[0].lower_value == "not")
        )
        if nested:
            return _condition(inner, leaf, depth + 1)
    return leaf(token)


def _not(answer: Answer) -> Answer:
    return None if answer is None else not answer


def _both(one: Answer, other: Answer) -> Answer:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _either(one: Answer, other: Answer) -> Answer:
    return _not(_both(_not(one), _not(other)))


# ---- media features


def _media_feature(token: Any) -> Answer:
    if token.type != "() block":
        return None
    tokens = bare(token.content)
    plain = len(tokens) == 1 or (len(tokens) > 2 and tokens[1].type == "literal" and tokens[1].value == ":")
    if plain and tokens[0].type == "ident":
        return _named(tokens[0].lower_value, tokens[2:])
    return _range(tokens)


def _named(name: str, value: list[Any]) -> Answer:
    limit = re.match(r"(-webkit-)?(min|max)-(.*)", name)
    if limit:
        feature, wanted = (limit.group(1) or "") + limit.group(3), _amount(value)
        if feature not in _NUMBERS or wanted is None:
            return None
        has = _NUMBERS[feature]
        return has >= wanted if limit.group(2) == "min" else has <= wanted
    if name in _NUMBERS:
        wanted = _amount(value)
        return bool(_NUMBERS[name]) if not value else None if wanted is None else abs(_NUMBERS[name] - wanted) < 1e-6
    if name in _WORDS:
        return not _WORDS[name] & _NO if not value else text_of(value).lower() in _WORDS[name]
    return None


def _range(tokens: list[Any]) -> Answer:
    """`400px <= width < 700px`, and the shorter forms."""
    sides: list[list[Any]] = [[]]
    signs: list[str] = []
    for token in tokens:
        if token.type == "literal" and token.value in {"<", ">", "=", "<=", ">="}:
            if signs and not sides[-1] and token.value == "=":
                signs[-1] += "="
            else:
                signs.append(token.value)
                sides.append([])
        else:
            sides[-1].append(token)
    amounts = [_NUMBERS.get(text_of(side).lower(), _amount(side)) for side in sides]
    if not signs or any(amount is None for amount in amounts):
        return None
    numbers = [amount for amount in amounts if amount is not None]
    return all(
        {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b, "=": a == b}.get(sign, False)
        for a, sign, b in zip(numbers, signs, numbers[1:], strict=False)
    )


def _amount(tokens: list[Any]) -> float | None:
    """A length in pixels, a ratio, a resolution in dots per pixel or a number."""
    ratio = split(tokens, "/")
    if len(ratio) == 2:
        over, under = _amount(ratio[0]), _amount(ratio[1])
        return over / under if over is not None and under else None
    if len(tokens) == 1 and tokens[0].type == "dimension" and tokens[0].lower_unit in _RESOLUTIONS:
        return float(tokens[0].value) * _RESOLUTIONS[tokens[0].lower_unit]
    pixels = length_px(text_of(tokens), 16.0) if tokens else None
    if pixels is not None:
        return pixels

    def unit(_: Any) -> Amount | None:
        return None

    found = calculate(tokens, unit)
    return found[0] if found is not None else None


# ---- supports


def _supported(token: Any) -> Answer:
    if token.type == "function":
        return _supported_function(token)
    tokens = bare(token.content) if token.type == "() block" else []
    if len(tokens) < 3 or tokens[0].type != "ident" or tokens[1].type != "literal" or tokens[1].value != ":":
        return None
    return supports_declaration(tokens[0].value, text_of(tokens[2:]))


def _supported_function(token: Any) -> Answer:
    if token.lower_name != "selector":
        return None
    from zora_core.skills.css.selectors import parse_selectors

    return parse_selectors(token.arguments) is not None or None


@lru_cache(maxsize=1)
def _known() -> dict[str, frozenset[str]]:
    return {kind: frozenset(names.split()) for kind, names in load("css").items()}


def supports_declaration(name: str, value: str) -> Answer:
    """Whether browsers know a property and this kind of value; None where they differ or we do not know."""
    if name.startswith("--"):
        return True
    known = _known()
    name = name.lower()
    if name not in known["properties"]:
        return None
    if name.endswith("color") and not valid_colour(value):
        return None
    for token in _all_tokens(tokens_of(value), 0):
        if token.type == "function" and token.lower_name not in known["functions"]:
            return None
        if token.type == "ident" and token.value.startswith("-") and not token.value.startswith("--"):
            return None
        if token.type == "dimension" and token.lower_unit not in known["units"]:
            return None
    return True


def _all_tokens(tokens: Sequence[Any], depth: int) -> list[Any]:
    found: list[Any] = []
    for token in tokens:
        found.append(token)
        inner = getattr(token, "arguments", None) or getattr(token, "content", None)
        if inner and depth < 20:
            found.extend(_all_tokens(inner, depth + 1))
    return found
