"""The climate page: profiles, missions by status, and what they save, in kgCO2e a year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID
from tests.conftest import Zora
from zora_core.admin.pages.climate import by_category, kilograms
from zora_core.models import Role

PAGE = "/admin/climate"


async def mission(zora: Zora, title: str, status: str = "planned", kilos: float | None = 100, **fields: Any) -> UUID:
    return await zora.seed(
        "climate_missions",
        **{
            "title": title,
            "status": status,
            "category": "energy",
            "estimated_impact_kgco2": kilos,
            "verified": False,
            **fields,
        },
    )


async def test_without_records_the_page_says_what_to_do(founder: Visitor) -> None:
    await founder.open(PAGE)
    assert "No missions yet." in founder.text
    assert "No profiles yet." in founder.text
    link = "/admin/agents/tasks/new?agent=ORACLE&type=propose_new_climate_missions"
    assert len(founder.page.css(f"a[href='{link}']")) == 1
    await founder.open(link)
    assert founder.page.css_first("h1").text() == "propose_new_climate_missions"


async def test_profiles_are_shown_with_their_footprint(zora: Zora, founder: Visitor) -> None:
    await zora.seed(
        "climate_profiles",
        profile_type="person",
        name="Me <b>",
        estimated_footprint_kg=7150,
        is_primary=True,
        country="Spain",
        energy_source="natural_gas",
        household_size=1,
    )
    await zora.seed("climate_profiles", profile_type="brand", name="Shop", is_primary=False)
    await founder.open(PAGE)
    assert founder.texts(".tile h3") == ["Me <b>", "Shop"]
    mine, shop = founder.texts(".tile:has(h3)")
    assert "primary" in mine
    assert "7,150kgCO2e a year, estimated footprint" in mine
    assert "natural gas" in mine
    assert "1 person" in mine
    assert "Footprint not estimated." in shop


async def test_what_is_achieved_under_way_and_planned_is_told_with_its_unit(zora: Zora, founder: Visitor) -> None:
    await mission(zora, "A", "completed", 900, verified=True)
    await mission(zora, "B", "completed", 300, category="food")
    await mission(zora, "C", "in_progress", 50)
    await mission(zora, "D", "planned", 2000)
    await mission(zora, "E", "planned", None)
    await mission(zora, "F", "cancelled", 70_000)
    await mission(zora, "G", "failed", 80_000)
    await founder.open(PAGE)
    achieved, under_way, planned = founder.texts(".tiles .tile")
    assert achieved == "Achieved1,200kgCO2e a year2 missions; 900 kgCO2e a year of it verified"
    assert under_way == "Under way50kgCO2e a year1 mission"
    assert planned == "Planned2,000kgCO2e a year2 missions"
    energy, food = founder.texts(".categories li")
    assert energy == "energy achieved 900, under way 50, planned 2,000 kgCO2e a year"
    assert food == "food achieved 300 kgCO2e a year"
    assert founder.texts("h3.status") == ["Under way", "Planned", "Achieved", "Cancelled", "Failed"]


async def test_a_mission_says_its_category_due_date_and_whether_it_is_verified(zora: Zora, founder: Visitor) -> None:
    profile = await zora.seed("climate_profiles", profile_type="person", name="Us", is_primary=True)
    soon = datetime.now(UTC) + timedelta(days=30)
    late = await mission(
        zora, "Late <i>one</i>", due_date="2026-01-05T12:00:00Z", profile_id=profile, description="<p>"
    )
    later = await mission(zora, "Later", due_date=soon, kilos=None)
    sure = await mission(zora, "Sure", "completed", verified=True)
    unsure = await mission(zora, "Unsure", "completed", kilos=0.4)
    await founder.open(PAGE)
    rows = {key: founder.texts(f"#m-{key}")[0] for key in (late, later, sure, unsure)}
    assert "Late <i>one</i>" in rows[late]
    assert "energy · for Us" in rows[late]
    assert "100 kgCO2e a year overdue due 2026-01-05".replace(" ", "") in rows[late].replace(" ", "")
    assert "overdue" not in rows[later]
    assert "not estimated" in rows[later]
    assert "verified" in rows[sure]
    assert "not verified" not in rows[sure]
    assert "not verified" in rows[unsure]
    assert "0.4 kgCO2e a year" in rows[unsure]
    assert [str(row.id) for row in founder.page.css(".row")][:2] == [f"m-{late}", f"m-{later}"]


async def test_missions_of_a_status_are_shown_by_pages(zora: Zora, founder: Visitor) -> None:
    for number in range(53):
        await mission(zora, f"M{number}", created_at=zora.now + timedelta(minutes=number))
    await mission(zora, "Done", "completed")
    await founder.open(PAGE)
    assert founder.texts(".row b")[:2] == ["M52", "100"]
    assert len(founder.page.css(".row")) == 11
    await founder.open(f"{PAGE}?status=planned")
    assert "Done" not in founder.text
    assert len(founder.page.css(".row")) == 50
    await founder.open(str(founder.page.css_first("a[rel=next]").attributes["href"]))
    assert founder.texts(".row .what b") == ["M2", "M1", "M0"]
    assert founder.page.css_first("a[rel=next]") is None
    await founder.open(f"{PAGE}?status=nonsense&offset=x")
    assert len(founder.page.css(".row")) == 11


async def test_a_mission_names_the_suggestion_that_made_it(zora: Zora, founder: Visitor) -> None:
    await zora.seed("climate_profiles", profile_type="person", name="Me", is_primary=True)
    await zora.run("ORACLE", "propose_new_climate_missions", {"count": 1})
    (suggestion,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await founder.open("/admin/agents/tasks")
    await founder.post(
        f"/admin/agents/suggestions/{suggestion['id']}/decision",
        decision="approve",
        digest=suggestion["effect_digest"],
    )
    await founder.open(PAGE)
    assert "proposed by ORACLE, approved by founder@example.org" in founder.text
    assert founder.page.css_first(f".row a[href='/admin/agents/suggestions/{suggestion['id']}']") is not None


async def test_viewers_see_it_all_and_are_offered_no_task(zora: Zora, visitors: Visitors) -> None:
    await mission(zora, "Cycle")
    viewer = await visitors(Role.VIEWER)
    await viewer.open(PAGE)
    assert "Cycle" in viewer.text
    assert viewer.page.css("main form, main a.button") == []


async def test_another_tenants_records_are_not_shown(zora: Zora, visitors: Visitors) -> None:
    await mission(zora, "Cycle")
    other = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await other.open(PAGE)
    assert "No missions yet." in other.text


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0, "0"), (0.44, "0.4"), (3, "3"), (12.6, "13"), (1234567, "1,234,567")]
)
def test_kilograms_are_written_for_people(value: float | None, said: str) -> None:
    assert kilograms(value) == said


def test_bars_are_as_long_as_their_share_of_the_longest() -> None:
    def row(category: str, status: str, kilos: float) -> dict[str, Any]:
        return {"category": category, "status": status, "missions": 1, "kgco2": kilos, "verified_kgco2": 0}

    found = by_category(
        [row("food", "planned", 50), row("energy", "completed", 50), row("energy", "planned", 150),
         row("products", "planned", -5), row("advocacy", "cancelled", 900)]
    )  # fmt: skip
    assert [one.name for one in found] == ["energy", "food", "products"]
    assert [(bar.kind, bar.x, bar.width) for bar in found[0].bar] == [("achieved", 0, 250), ("planned", 250, 750)]
    assert [(bar.kind, bar.x, bar.width) for bar in found[1].bar] == [("planned", 0, 250)]
    assert list(found[2].bar) == []
