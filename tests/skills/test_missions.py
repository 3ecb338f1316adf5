"""The catalogue, what an action saves for a profile, and which actions are proposed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from zora_core.errors import ConfigurationError
from zora_core.models import ClimateMission, ClimateProfile
from zora_core.skills.planning.impact import Estimate, evaluate, propagate
from zora_core.skills.planning.missions import (
    CATEGORIES,
    catalogue,
    covers,
    explain,
    propose,
    situation,
    unsuitable,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)

# Medians in kgCO2e per person and year: Ivanova et al. 2020 (ERL 15 093001), Wynes & Nicholas 2017 (ERL 12 074024).
PUBLISHED = {
    "car_free": (2040, 2400),
    "bev": (1950, 1150),
    "no_long_flight": (1680, 1600),
    "green_tariff": (1600,),
    "transit_shift": (980,),
    "renovation": (895,),
    "vegan": (800, 900),
    "heat_pump": (795,),
}


def profile(**fields: Any) -> ClimateProfile:
    return ClimateProfile(**{"id": uuid4(), "profile_type": "person", "name": "Test", "created_at": NOW, **fields})


def mission(title: str, status: Any = "planned", category: Any = "energy") -> ClimateMission:
    return ClimateMission(id=uuid4(), title=title, category=category, status=status, created_at=NOW)


def saving(action_id: str, who: ClimateProfile | None) -> float:
    (action,) = [a for a in catalogue().actions if a.id == action_id]
    return propagate(action.formula, situation(who).inputs).mid


def ids(who: ClimateProfile | None, existing: list[ClimateMission] | None = None, **options: Any) -> list[str]:
    return [p.action.id for p in propose(who, existing or [], **{"count": 90, **options}).proposals]


def test_the_catalogue_is_sound() -> None:
    book = catalogue()
    names = {a.id for a in book.actions}
    assert len(book.actions) >= 60
    assert len(names) == len(book.actions)
    for action in book.actions:
        impact = propagate(action.formula, situation(None).inputs)
        assert impact.low <= impact.mid <= impact.high, action.id
        assert action.category in CATEGORIES
        assert set(action.conflicts) <= names, action.id
        assert 0 < action.feasibility <= 1
        assert action.wrong
    for estimate in book.inputs.values():
        assert estimate.low <= estimate.mid <= estimate.high
        assert estimate.source
        assert 1985 <= estimate.year <= 2026


@pytest.mark.parametrize(("action_id", "values"), PUBLISHED.items())
def test_published_savings_lie_inside_the_range(action_id: str, values: tuple[int, ...]) -> None:
    (action,) = [a for a in catalogue().actions if a.id == action_id]
    impact = propagate(action.formula, situation(None).inputs)
    assert all(impact.low <= value <= impact.high for value in values), impact


def test_the_country_decides_what_electricity_saves() -> None:
    assert saving("green_tariff", profile(country="Poland")) > 5 * saving("green_tariff", profile(country="FR"))
    assert saving("bev", profile(country="Norway")) > saving("bev", profile(country="India"))
    assert situation(profile(country="UK")).inputs["grid"].mid == 0.177
    assert "Atlantis" in " ".join(situation(profile(country="Atlantis")).assumptions)


def test_the_profile_decides_what_fits() -> None:
    vegan = ids(profile(diet_type="vegan"))
    assert not {"vegan", "vegetarian", "less_meat", "plant_milk"} & set(vegan)
    walker = ids(profile(transport_mode="walking"))
    assert not {"car_free", "bev", "carpool"} & set(walker)
    assert "heat_pump" not in ids(profile(energy_source="heat pump"))
    assert {"car_free", "bev"} & set(ids(profile(transport_mode="petrol car")))
    brand = set(ids(profile(profile_type="brand", name="Soap")))
    assert "refill" in brand
    assert "vegan" not in brand


def test_more_people_save_more_at_home() -> None:
    assert saving("renovation", profile(household_size=4)) == pytest.approx(4 * saving("renovation", profile()))


def test_without_a_profile_the_assumptions_are_told() -> None:
    told = " ".join(situation(None).assumptions)
    assert "no profile" in told
    assert "country" in told


def test_an_existing_mission_is_not_proposed_again_in_any_wording() -> None:
    existing = [mission("Install an air-source heat pump", "cancelled"), mission("Meatless Mondays", category="food")]
    found = ids(None, existing)
    assert not {"heat_pump", "meat_free_day"} & set(found)
    assert "renovation" in found or "loft" in found


def test_what_was_suggested_before_is_not_suggested_again() -> None:
    first = propose(None, [], count=3).proposals
    again = propose(None, [], count=3, also_taken=[p.action.title for p in first]).proposals
    assert not {p.action.id for p in first} & {p.action.id for p in again}


def test_a_mission_under_way_makes_others_pointless() -> None:
    found = ids(None, [mission("Live without a car", "in_progress", "transport")])
    assert not {"bev", "carpool", "eco_driving"} & set(found)


def test_proposals_do_not_repeat_each_other() -> None:
    chosen = propose(None, [], count=90).proposals
    for p in chosen:
        assert not any(covers(p.action, other.action.title) for other in chosen if other is not p), p.action.id
        assert not any(other.action.id in p.action.conflicts for other in chosen), p.action.id


def test_general_proposals_spread_and_a_focus_does_not() -> None:
    spread = Counter(p.action.category for p in propose(None, [], count=5).proposals)
    assert len(spread) >= 4
    focused = propose(None, [], count=5, focus_area="food").proposals
    assert {p.action.category for p in focused} == {"food"}


def test_nothing_left_says_why() -> None:
    everything = [mission(a.title, category=a.category) for a in catalogue().actions]
    choice = propose(None, everything)
    assert choice.proposals == []
    assert sum(choice.left_out.values()) == choice.examined


def test_a_known_footprint_caps_the_saving() -> None:
    (top, *_) = propose(profile(estimated_footprint_kg=1000), [], count=1, focus_area="energy").proposals
    assert top.impact.high <= 1000
    assert top.impact.mid <= 500


def test_the_explanation_shows_formula_sources_and_doubts() -> None:
    (proposal, *_) = propose(profile(country="DE"), [], count=1, focus_area="transport").proposals
    text = explain(proposal)
    assert proposal.action.formula in text
    assert "What would make this wrong" in text
    assert "DESNZ 2025" in text


def test_ranges_combine_by_root_sum_of_squares() -> None:
    one = Estimate(-1, 0, 3, "kg", "test", 2026)
    impact = propagate("a + b", {"a": one, "b": Estimate(-1, 0, 4, "kg", "test", 2026)})
    assert impact.high == pytest.approx(5)
    assert impact.low == pytest.approx(-(2**0.5))
    assert impact.drivers[0][0] == "b"


def test_a_formula_may_only_calculate() -> None:
    assert evaluate("2 * (a - 1) / b", {"a": 3, "b": 4}) == 1
    for formula in ("__import__('os')", "a.b", "a if b else 1", "[a]", "a ** b", "'x' * 3"):
        with pytest.raises(ConfigurationError):
            evaluate(formula, {"a": 1, "b": 1})
    with pytest.raises(ConfigurationError, match="nowhere"):
        evaluate("nowhere + 1", {})


def test_unsuitable_names_a_reason() -> None:
    (refill,) = [a for a in catalogue().actions if a.id == "refill"]
    assert unsuitable(refill, situation(None)) == "not for this type of profile"
