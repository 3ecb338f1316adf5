"""Texts of many kinds and what is said of them: the files `texts/claims*.txt`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zora_core.skills.claims import ClaimsReport, check_text

TEXTS = Path(__file__).parent / "texts"
FILES = [TEXTS / name for name in ("claims.txt", "claims_second.txt", "claims_senses.txt")]
HELD_OUT = TEXTS / "claims_held_out.txt"
WHOLE = {"claims.eu.whole-for-part", "claims.uk.whole-for-part"}


def texts(*files: Path) -> list[tuple[str, str]]:
    """Every text of `files` with its heading."""
    found, heading = [], ""
    for line in (line for file in files for line in file.read_text("utf-8").splitlines()):
        if line.startswith("## "):
            heading = line[3:]
        elif line and not line.startswith("# "):
            found.append((heading, re.sub(r"\\(n|u[0-9a-f]{4})", _escaped, line)))
    return found


def _escaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else chr(int(match[1][1:], 16))


def outcome(text: str) -> tuple[ClaimsReport, set[str], set[str]]:
    report = check_text(text, source="s")
    return report, {c.verdict for c in report.claims}, {f.rule_id for f in report.findings}


def is_right(heading: str, text: str) -> bool:
    report, verdicts, rules = outcome(text)
    match heading:
        case "prohibited":
            return "prohibited" in verdicts and "claims.uk.vague-term" in rules and "claims.us.general-benefit" in rules
        case "claim":
            return bool(report.claims)
        case "not prohibited":
            return bool(report.claims) and "prohibited" not in verdicts and "claims.uk.vague-term" not in rules
        case "no claim":
            return not report.claims and not report.not_judged
        case "no part for whole":
            return bool(report.claims) and not WHOLE & rules
        case "part for whole":
            return bool(WHOLE & rules)
        case "in another language":
            return bool(report.claims or report.not_judged)
        case _:
            (part,) = report.not_judged
            return heading == f"not judged: {part.language}" and not report.claims and "language.not-judged" in rules


@pytest.mark.parametrize(("heading", "text"), texts(*FILES))
def test_a_text_is_judged_as_its_heading_says(heading: str, text: str) -> None:
    assert is_right(heading, text)


@pytest.mark.parametrize(("heading", "text"), [pair for pair in texts(*FILES) if pair[0] == "prohibited"])
def test_a_claim_is_quoted_as_it_stands_in_the_text(heading: str, text: str) -> None:
    for claim in check_text(text, source="s").claims:
        assert text[claim.start : claim.start + len(claim.text)] == claim.text


@pytest.mark.parametrize("heading", ["claim", "no claim"])
def test_nine_in_ten_of_the_held_out_texts_are_judged_right(heading: str) -> None:
    held_out = [text for own, text in texts(HELD_OUT) if own == heading]
    assert sum(bool(outcome(text)[0].claims) == (heading == "claim") for text in held_out) >= 0.9 * len(held_out)
