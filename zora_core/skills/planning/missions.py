"""Climate missions for a profile: what each action of the catalogue would save, and which to propose."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from zora_core.data import load
from zora_core.models import ClimateMission, ClimateProfile
from zora_core.skills.planning.impact import Estimate, Impact, names, propagate
from zora_core.skills.text.similarity import similarity
from zora_core.skills.text.words import stems, words

# The data files that the catalogue is read from.
DATA = ("missions", "emission_factors")
CATEGORIES = ("energy", "transport", "food", "consumption", "advocacy", "products")
_LETTERS = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Action:
    """An entry of the catalogue (`data/missions.toml` says what the fields mean)."""

    id: str
    title: str
    category: str
    profile_types: tuple[str, ...]
    formula: str
    feasibility: float
    description: str
    wrong: str
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    excludes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    known_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """The actions, the estimates that their formulas name, and how profiles are understood."""

    actions: tuple[Action, ...]
    inputs: Mapping[str, Estimate]
    diets: Mapping[str, Estimate]
    factors: Mapping[str, Any]
    rules: Mapping[str, Any]


@dataclass(frozen=True)
class Situation:
    """What is known and assumed of a profile: `inputs` are all names that a formula may use."""

    profile_type: str
    facts: Mapping[str, str]
    known: frozenset[str]
    country: str
    inputs: Mapping[str, Estimate]
    assumptions: tuple[str, ...]
    footprint: float | None


@dataclass(frozen=True)
class Proposal:
    """An action with its saving for the profile, in kgCO2e per year, and why it was chosen."""

    action: Action
    impact: Impact
    inputs: Mapping[str, Estimate]
    novelty: float
    score: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """The proposals, and how many actions were left out for which reason."""

    proposals: list[Proposal]
    examined: int
    left_out: dict[str, int]


@cache
def catalogue() -> Catalogue:
    """Read the catalogue and the emission factors from the data files."""
    raw, factors = map(load, DATA)
    inputs = {name: Estimate(**value) for name, value in {**factors["factors"], **raw["inputs"]}.items()}
    diets = {name: Estimate(**value) for name, value in factors["diets"].items()}
    inputs.update({f"{name}_diet": estimate for name, estimate in diets.items()})
    actions = tuple(_action(entry) for entry in raw["actions"])
    return Catalogue(actions, inputs, diets, factors, raw)


def _action(entry: Mapping[str, Any]) -> Action:
    return Action(
        id=entry["id"],
        title=entry["title"],
        category=entry["category"],
        profile_types=tuple(entry["for"]),
        formula=entry["formula"],
        feasibility=entry["feasibility"],
        description=entry["description"],
        wrong=entry["wrong"],
        requires={key: tuple(values) for key, values in entry.get("requires", {}).items()},
        excludes={key: tuple(values) for key, values in entry.get("excludes", {}).items()},
        conflicts=tuple(entry.get("conflicts", ())),
        known_as=tuple(entry.get("known_as", ())),
    )


def situation(profile: ClimateProfile | None) -> Situation:
    """Read a profile; what it does not say is taken from the stated averages, and each such use is told."""
    book = catalogue()
    assumed = book.rules["assumed"]
    profile_type = profile.profile_type if profile else "person"
    told = {
        "transport": profile.transport_mode if profile else None,
        "energy": profile.energy_source if profile else None,
        "diet": profile.diet_type if profile else None,
        "location": profile.location_type if profile else None,
    }
    facts: dict[str, str] = {}
    assumptions = [] if profile else ["There is no profile: an average adult of a high-income country is assumed."]
    known = set()
    for subject, text in told.items():
        value = _understand(subject, text)
        if value is not None:
            facts[subject] = value
            known.add(subject)
        elif subject in assumed:
            facts[subject] = assumed[subject]
            said = f"“{text}” is not understood" if text else "not given"
            assumptions.append(f"{subject}: {said}, taken as {assumed[subject]}.")
    country, note = _country(profile.country if profile else None)
    assumptions += [note] if note else []
    people, note = _people(profile, profile_type)
    assumptions += [note] if note else []
    inputs = dict(book.inputs)
    inputs["people"] = people
    inputs["grid"] = inputs["green_electricity"] if facts["energy"] == "renewable" else grid(country)
    inputs["heat"] = _heat(facts["energy"], grid(country), book)
    inputs["diet"] = book.diets[facts["diet"]]
    footprint = profile.estimated_footprint_kg if profile else None
    inputs["footprint"] = _footprint(footprint, people, book)
    return Situation(profile_type, facts, frozenset(known), country, inputs, tuple(assumptions), footprint)


def grid(country: str) -> Estimate:
    """The intensity of electricity in `country` (a code of the data file), in kgCO2e/kWh."""
    table = catalogue().factors["grid"]
    if country in table["own"]:
        return Estimate(**table["own"][country])
    mid = table["values"][country] / 1000
    spread = table["spread"]
    source = table["source"] + (" (unchecked)" if country in table["unchecked"] else "")
    return Estimate(
        round(mid * (1 - spread), 4), mid, round(mid * (1 + spread), 4), "kgCO2e/kWh", source, table["year"]
    )


def _understand(subject: str, text: str | None) -> str | None:
    """Which of the known values a profile's free text means, if any."""
    if not text:
        return None
    plain = _spaced(text)
    for value, wordings in catalogue().rules["profile"][subject].items():
        if any(_spaced(wording) in plain for wording in wordings):
            return str(value)
    return None


def _spaced(text: str) -> str:
    return f" {' '.join(_LETTERS.findall(text.casefold()))} "


def _country(text: str | None) -> tuple[str, str]:
    factors = catalogue().factors
    default = catalogue().rules["assumed"]["country"]
    if not text:
        return default, "country: not given, the world's average electricity is used."
    code = factors["country_names"].get(text.strip().casefold(), text.strip().upper())
    code = "GB" if code == "UK" else code
    if code in factors["grid"]["values"] or code in factors["grid"]["own"]:
        return code, ""
    return default, f"country: no figure for “{text}”, the world's average electricity is used."


def _people(profile: ClimateProfile | None, profile_type: str) -> tuple[Estimate, str]:
    assumed = catalogue().rules["assumed"]
    if profile and profile.household_size:
        size = float(profile.household_size)
        return Estimate(size, size, size, "people", "the profile", profile.created_at.year), ""
    size, spread = float(assumed["people"][profile_type]), float(assumed["people_spread"][profile_type])
    kind = "one person" if profile_type == "person" else f"{size:g} people"
    estimate = Estimate(size * (1 - spread), size, size * (1 + spread), "people", "assumed", 2026)
    return estimate, f"people: not given, figures are for {kind}."


def _heat(energy: str, power: Estimate, book: Catalogue) -> Estimate:
    if energy == "electricity":
        return power
    if energy == "heat_pump":
        factor = book.inputs["heat_pump_factor"]
        source = f"{power.source}; {factor.source}"
        return Estimate(
            power.low / factor.high, power.mid / factor.mid, power.high / factor.low, "kgCO2e/kWh", source, power.year
        )
    return book.inputs[book.rules["heat_of"][energy]]


def _footprint(told: float | None, people: Estimate, book: Catalogue) -> Estimate:
    if told:
        return Estimate(
            told * 0.8, told, told * 1.2, "kgCO2e/year", "the profile's own estimate, give or take a fifth", 2026
        )
    average = book.inputs["average_footprint"]
    low, mid, high = average.low * people.low, average.mid * people.mid, average.high * people.high
    return Estimate(low, mid, high, average.unit, average.source, average.year)


def unsuitable(action: Action, where: Situation) -> str | None:
    """Why the action does not fit the profile; None when it does."""
    if where.profile_type not in action.profile_types:
        return "not for this type of profile"
    for subject, values in action.excludes.items():
        if subject in where.known and where.facts[subject] in values:
            return "already so, or ruled out by the profile"
    for subject, values in action.requires.items():
        if subject in where.facts and where.facts[subject] not in values:
            return "what it needs is not there"
    return None


def covers(action: Action, title: str) -> bool:
    """Whether a mission of that title is this action: by one of its other wordings, or by likeness of the titles."""
    said, phrase = set(stems(title)), f" {' '.join(words(title))} "
    for wording in (action.title, *action.known_as):
        wanted = set(stems(wording))
        telling = len(wanted) > 1 or len(words(wording)) == 1
        if (telling and wanted <= said) or f" {' '.join(words(wording))} " in phrase:
            return True
    return similarity(action.title, title) >= float(catalogue().rules["scoring"]["same_mission"])


def propose(
    profile: ClimateProfile | None,
    existing: Sequence[ClimateMission],
    *,
    focus_area: str = "general",
    count: int = 5,
    also_taken: Iterable[str] = (),
) -> Choice:
    """Choose up to `count` actions for a profile.

    `existing` missions and the titles `also_taken` (already suggested) are not proposed again, nor is anything that a
    mission under way or done makes pointless. Ranked by impact, feasibility and novelty; without a focus area the
    proposals spread over the categories.
    """
    book = catalogue()
    where = situation(profile)
    titles = [mission.title for mission in existing]
    under_way = [m.title for m in existing if m.status in ("planned", "in_progress", "completed")]
    others = [*titles, *also_taken]
    blocked = {a.id for a in book.actions if any(covers(a, title) for title in under_way)}
    clashes = {other for a in book.actions if a.id in blocked for other in a.conflicts}
    left_out: Counter[str] = Counter()
    candidates: list[Proposal] = []
    for action in book.actions:
        reason = unsuitable(action, where)
        if reason is None and focus_area not in ("general", action.category):
            reason = "outside the focus area"
        if reason is None and any(covers(action, title) for title in others):
            reason = "exists already or was suggested before"
        if reason is None and action.id in clashes:
            reason = "another mission does the same another way"
        if reason is None:
            proposal = _assess(action, where, others)
            if proposal.impact.mid > 0:
                candidates.append(proposal)
                continue
            reason = "would not save anything here"
        left_out[reason] += 1
    return Choice(_spread(_scored(candidates), count, focus_area), len(book.actions), dict(left_out.most_common()))


def suitable(profile: ClimateProfile | None, existing: Sequence[ClimateMission]) -> list[Action]:
    """The actions that fit a profile and that no mission covers yet, whatever was suggested before."""
    where = situation(profile)
    return [
        action
        for action in catalogue().actions
        if unsuitable(action, where) is None and not any(covers(action, mission.title) for mission in existing)
    ]


def _assess(action: Action, where: Situation, titles: Sequence[str]) -> Proposal:
    impact = propagate(action.formula, where.inputs)
    notes = []
    if where.footprint and impact.mid > 0.5 * where.footprint and action.category != "advocacy":
        ceiling = 0.5 * where.footprint
        notes.append(f"Cut to half of the profile's footprint ({where.footprint:g} kg) from {impact.mid:.0f} kg.")
        scale = ceiling / impact.mid
        impact = Impact(impact.low * scale, ceiling, min(impact.high, where.footprint), impact.drivers)
    if impact.low < 0:
        notes.append("In an unfavourable case it saves nothing.")
    unknown = sorted(subject for subject in action.requires if subject not in where.known)
    notes += [f"Assumes {subject}: {where.facts.get(subject, 'unknown')}." for subject in unknown]
    novelty = 1 - max((similarity(action.title, title) for title in titles), default=0.0)
    inputs = {name: where.inputs[name] for name in names(action.formula)}
    return Proposal(action, impact, inputs, round(novelty, 3), 0.0, tuple(notes))


def _scored(candidates: Sequence[Proposal]) -> list[Proposal]:
    weights = catalogue().rules["scoring"]
    largest = max((c.impact.mid for c in candidates), default=1.0)
    found = []
    for c in candidates:
        score = (c.impact.mid / largest) ** weights["impact"]
        score *= c.action.feasibility ** weights["feasibility"] * max(c.novelty, 0.01) ** weights["novelty"]
        if any(note.startswith("Assumes") for note in c.notes):
            score *= weights["unknown_requirement"]
        found.append(Proposal(c.action, c.impact, c.inputs, c.novelty, round(score, 5), c.notes))
    return sorted(found, key=lambda c: (-c.score, c.action.id))


def _spread(candidates: Sequence[Proposal], count: int, focus_area: str) -> list[Proposal]:
    repeat = catalogue().rules["scoring"]["repeat"] if focus_area == "general" else 1.0
    left = list(candidates)
    chosen: list[Proposal] = []
    used: Counter[str] = Counter()
    while left and len(chosen) < count:
        best = max(left, key=lambda c: (c.score * repeat ** used[c.action.category], c.action.id))
        chosen.append(best)
        used[best.action.category] += 1
        left = [
            c
            for c in left
            if c is not best
            and c.action.id not in best.action.conflicts
            and best.action.id not in c.action.conflicts
            and not covers(c.action, best.action.title)
            and not covers(best.action, c.action.title)
        ]
    return chosen


def explain(proposal: Proposal) -> str:
    """The mission's description: what to do, the figure with its formula and inputs, and what would make it wrong."""
    impact, action = proposal.impact, proposal.action
    span = f"{max(0.0, impact.low):.0f} to {impact.high:.0f}"
    lines = [
        action.description,
        f"Saves about {impact.mid:.0f} kgCO2e a year ({span}): {action.formula}.",
        "Inputs: " + "; ".join(f"{name} = {estimate.text}" for name, estimate in proposal.inputs.items()) + ".",
        f"What would make this wrong: {action.wrong}" + _most_uncertain(impact),
        *proposal.notes,
    ]
    return "\n".join(lines)


def _most_uncertain(impact: Impact) -> str:
    if not impact.drivers or impact.drivers[0][1] == 0:
        return ""
    name, share = impact.drivers[0]
    return f" The figure depends most on {name} ({share:.0%} of its uncertainty)."
