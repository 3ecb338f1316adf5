"""What a goal in plain words asks for: the templates it fits, and the pages, addresses and numbers it names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from zora_core.data import load

_WORD = re.compile(r"[\w'’-]+")
_URL = re.compile(r"https?://[^\s<>\"'“”]+[^\s<>\"'“”.,;:!?)\]]")
_QUOTED = re.compile(r"[\"“«]([^\"“”«»]{8,1000})[\"”»]")
_PATH = re.compile(
    r"(?<![\w/:.])(?:file://)?(?:\.{1,2}/|~/|/)[\w.+@-]+(?:/[\w.+@-]+)*/?|(?<![\w/:.])[\w.-]+(?:/[\w.+@-]+)+/?"
)
_SPAN = re.compile(r"\b(\d{1,4})\s*(hours?|days?|weeks?|months?|h\b|d\b)", re.I)
_COUNT = re.compile(r"\b(\d{1,2})\s+(?:\w+\s+){0,3}(?:missions?|actions?|ideas?|proposals?)\b", re.I)
_HOURS = {"hour": 1, "h": 1, "day": 24, "d": 24, "week": 168, "month": 720}
TOPIC_CHARACTERS = 200


@dataclass(frozen=True)
class Match:
    """A template that fits a goal: `score` is the sum of the weights of `words`, the keywords that stand in it."""

    key: str
    title: str
    score: int
    words: tuple[str, ...]


def settings() -> dict[str, Any]:
    """Templates, steps and assumptions in `workflow_templates.toml`."""
    return load("workflow_templates")


def match_templates(goal: str) -> list[Match]:
    """The templates that fit, best first; keywords that the goal negates do not count."""
    matches = [match for match in _scores(goal) if match.score >= settings()["threshold"]]
    return sorted(matches, key=lambda match: (-match.score, match.key))


def nearest_templates(goal: str) -> list[Match]:
    """The templates to offer when none fits: by keywords, then by likeness of the words."""
    from rapidfuzz import fuzz

    templates = {template["key"]: template for template in settings()["templates"]}

    def closeness(match: Match) -> tuple[int, float, str]:
        words = " ".join([match.title, *templates[match.key]["keywords"]])
        return (-match.score, -fuzz.token_set_ratio(goal.lower(), words.lower()), match.key)

    return sorted(_scores(goal), key=closeness)[: settings()["nearest"]]


def find_entities(goal: str, page_keys: Sequence[str]) -> dict[str, Any]:
    """The things that a goal names: page, pages, url, urls, path, claims, topic, days, hours, count, category, depth.

    A page is named by its key as a word of the goal. Of a thing that is not named there is no entry.
    """
    rules = settings()
    lowered = goal.lower()
    words = _WORD.findall(lowered)
    urls = list(dict.fromkeys(_URL.findall(goal)))
    rest = _URL.sub(" ", goal)
    claims = _QUOTED.findall(rest)
    rest = _QUOTED.sub(" ", rest)
    pages = [key for key in page_keys if key.lower() in words]
    if not pages and any(phrase in lowered for phrase in rules["all_pages"]):
        pages = list(page_keys[: rules["max_pages"]])
    path = _PATH.search(rest)
    span = _SPAN.search(rest)
    count = _COUNT.search(rest)
    depths = {"deep": rules["deep_words"], "quick": rules["quick_words"]}
    found: dict[str, Any] = {
        "urls": urls,
        "url": urls[0] if urls else None,
        "claims": claims,
        "pages": pages,
        "page": pages[0] if pages else None,
        "path": path[0].rstrip(".,") if path else None,
        "count": int(count[1]) if count and int(count[1]) else None,
        "category": next((name for name in rules["categories"] if name in words), None),
        "depth": next((depth for depth, marks in depths.items() if any(word in words for word in marks)), None),
        "topic": _topic(goal),
    }
    if span:
        unit = span[2].lower().rstrip("s") if len(span[2]) > 1 else span[2].lower()
        hours = int(span[1]) * _HOURS[unit]
        found |= {"hours": hours or None, "days": max(1, hours // 24) if hours else None}
    return {name: value for name, value in found.items() if value}


def _topic(goal: str) -> str:
    """What follows the first word such as “about” or “research”, up to the next task; the whole goal without one."""
    marks = "|".join(map(re.escape, settings()["topic_marks"]))
    ends = "|".join(map(re.escape, settings()["topic_ends"]))
    parts = re.split(rf"\b(?:{marks})\b(?:\s+(?:{marks})\b)*", goal, maxsplit=1, flags=re.I)
    topic = re.split(rf"\b(?:{ends})\b", parts[1], maxsplit=1, flags=re.I)[0].strip(" :,.?!") if len(parts) > 1 else ""
    return (topic if len(topic) >= 3 else goal).strip()[:TOPIC_CHARACTERS]


def _scores(goal: str) -> list[Match]:
    rules = settings()
    words = _WORD.findall(goal.lower().replace("’", "'"))
    stems = _stems(words)
    wanted = [
        not set(rules["negations"]) & set(words[max(0, i - rules["negation_reach"]) : i]) for i in range(len(words))
    ]
    matches = []
    for template in rules["templates"]:
        found: dict[tuple[str, ...], tuple[str, int]] = {}
        for keyword, weight in template["keywords"].items():
            stemmed = tuple(_stems(_WORD.findall(keyword)))
            places = [i for i in range(len(stems)) if tuple(stems[i : i + len(stemmed)]) == stemmed and wanted[i]]
            if places and weight > found.get(stemmed, ("", 0))[1]:
                found[stemmed] = (keyword, weight)
        score = sum(weight for _, weight in found.values())
        matches.append(Match(template["key"], template["title"], score, tuple(word for word, _ in found.values())))
    return matches


@cache
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")


def _stems(words: Sequence[str]) -> list[str]:
    stems: list[str] = _stemmer().stemWords(list(words))
    return stems
