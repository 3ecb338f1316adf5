"""Estimates with a range, formulas over them, and how the range of an answer follows from those of its inputs."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from zora_core.errors import ConfigurationError
from zora_core.threads import PARSING

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Estimate:
    """A quantity as its most likely value and a range, with its unit and where it comes from."""

    low: float
    mid: float
    high: float
    unit: str
    source: str
    year: int

    @property
    def text(self) -> str:
        """The estimate on one line."""
        if self.low == self.high:
            return f"{self.mid:g} {self.unit} ({self.source})"
        return f"{self.mid:g} {self.unit}, {self.low:g} to {self.high:g} ({self.source})"


@dataclass(frozen=True)
class Impact:
    """The value of a formula; `drivers` are its inputs with their shares of the range's variance."""

    low: float
    mid: float
    high: float
    drivers: tuple[tuple[str, float], ...]


@cache
def parse(formula: str) -> ast.expr:
    """The formula's tree: sums, differences, products and quotients of names and numbers, and nothing else."""
    with PARSING:
        tree = ast.parse(formula, mode="eval").body
    for node in ast.walk(tree):
        plain = isinstance(node, ast.Name | ast.Load | ast.operator)
        number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        if not (plain or number or (isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS)):
            raise ConfigurationError(f"formula {formula!r} may not contain {type(node).__name__}")
    return tree


def names(formula: str) -> list[str]:
    """The names in a formula, each once, in order of appearance."""
    found = [node for node in ast.walk(parse(formula)) if isinstance(node, ast.Name)]
    return list(dict.fromkeys(node.id for node in sorted(found, key=lambda node: node.col_offset)))


def evaluate(formula: str, values: Mapping[str, float]) -> float:
    """The value of a formula for the given values; an unknown name raises `ConfigurationError`."""

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                if name not in values:
                    raise ConfigurationError(f"formula {formula!r} names {name!r}, which is not defined")
                return values[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATORS[type(op)](value(left), value(right))
        raise ConfigurationError(f"formula {formula!r} may not contain {type(node).__name__}")

    return value(parse(formula))


def propagate(formula: str, inputs: Mapping[str, Estimate]) -> Impact:
    """The formula's value and range.

    Each input in turn takes its low and high value while the others keep theirs; the deviations to either side are
    combined as independent, by root sum of squares (IPCC 2006 Guidelines vol. 1 ch. 3, approach 1): of their logarithms
    where every value is positive, as in a product, so that the range cannot change its sign.
    """
    used = [name for name in names(formula) if name in inputs]
    middle = {name: inputs[name].mid for name in used}
    mid = evaluate(formula, middle)
    ends = {
        name: [evaluate(formula, {**middle, name: end}) for end in (inputs[name].low, inputs[name].high)]
        for name in used
    }
    positive = mid > 0 and all(end > 0 for pair in ends.values() for end in pair)
    down = up = 0.0
    variance: dict[str, float] = {}
    for name, pair in ends.items():
        deviations = [math.log(end / mid) if positive else end - mid for end in pair]
        lowest, highest = min(*deviations, 0.0), max(*deviations, 0.0)
        down += lowest * lowest
        up += highest * highest
        variance[name] = lowest * lowest + highest * highest
    total = down + up
    drivers = sorted(((name, part / total) for name, part in variance.items() if total), key=lambda d: (-d[1], d[0]))
    low, high = math.sqrt(down), math.sqrt(up)
    if positive:
        return Impact(mid * math.exp(-low), mid, mid * math.exp(high), tuple(drivers))
    return Impact(mid - low, mid, mid + high, tuple(drivers))
