"""The schedules' pages: what comes when, a new one, changes, and who may do what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID
from tests.conftest import Zora
from zora_core.admin.crontab import in_words
from zora_core.models import Role

NEW = "/admin/schedules/new"
HOSTILE = "<script>alert(1)</script>\"'"


def form(**fields: Any) -> dict[str, Any]:
    """The form of a new schedule as a browser sends it."""
    return {
        "agent": "EIVOR", "type": "summarize_recent_events", "name": "Digest", "cron": "0 9 * * 1",
        "timezone": "Europe/Berlin", "title": "", "priority": "0", "misfire_policy": "run_once", "max_catch_up": "100",
        "grace_seconds": "300", "overlap_policy": "allow", **fields,
    }  # fmt: skip


async def create(visitor: Visitor, **fields: Any) -> str:
    """Create a schedule; gives its page's path."""
    await visitor.post(NEW, **form(**fields))
    assert visitor.notice.startswith("Created."), visitor.text
    return visitor.here


async def stored(zora: Zora) -> list[dict[str, Any]]:
    return await zora.call("list_schedules", tenant_id=zora.tenant_id)


@pytest.fixture(autouse=True)
async def today(zora: Zora) -> None:
    """Set the database's clock to ours, before anybody signs in: the pages go by the latter."""
    await zora.advance(seconds=(datetime.now(UTC) - zora.now).total_seconds())


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("@daily", "every day at 00:00"),
        ("0 9 * * 1", "Mondays at 09:00"),
        ("30 7 * * mon,THU", "Mondays and Thursdays at 07:30"),
        ("30 7 * * 1-5", "Monday to Friday at 07:30"),
        ("5 4 * * 0,3,6", "Sundays, Wednesdays and Saturdays at 04:05"),
        ("*/15 * * * *", "every 15 minutes"),
        ("* * * * *", "every minute"),
        ("7 * * * *", "every hour at :07"),
        ("0 */6 * * *", "every 6 hours at :00"),
        ("0 9 1 * *", "on day 1 of every month at 09:00"),
        ("0 9 L * *", "on the last day of every month at 09:00"),
        ("@yearly", "on 1 January at 00:00"),
        ("*/7 * * * *", None),  # not every 7 minutes: 56, then 0
        ("0 */5 * * *", None),
        ("0 9 1 * 1", None),
        ("0 9,17 * * *", None),
        ("0 9 * * 1#2", None),
        ("0 9 * * 1/2", None),
    ],
)
def test_a_cron_expression_is_told_in_words_where_few_are_enough(cron: str, words: str | None) -> None:
    assert in_words(cron) == words


async def test_without_schedules_the_page_says_what_one_is_and_how_to_make_one(founder: Visitor) -> None:
    await founder.open("/admin/schedules")
    assert "No schedules yet." in founder.text
    link = founder.page.css_first(f".empty a[href='{NEW}']")
    assert link is not None
    await founder.open(NEW)
    hrefs = [link.attributes["href"] for link in founder.page.css(".kinds a")]
    assert "/admin/schedules/new?agent=EIVOR&type=summarize_recent_events" in hrefs
    await founder.open(hrefs[0])
    assert founder.page.css_first("input[name=cron]") is not None


async def test_a_schedule_is_created_from_the_form_and_its_fire_times_are_planned(zora: Zora, founder: Visitor) -> None:
    path = await create(founder, **{"payload.days": "7", "title": "The week", "overlap_policy": "skip"})
    assert "“Digest” runs next on Mon " in founder.notice
    assert "(Europe/Berlin)" in founder.notice
    (row,) = await stored(zora)
    assert path == f"/admin/schedules/{row['id']}"
    assert row["next_run_at"] is not None
    assert len(row["upcoming"]) >= 100
    assert (row["title"], row["overlap_policy"], row["misfire_policy"]) == ("The week", "skip", "run_once")
    assert "Mondays at 09:00" in founder.text
    assert "“The week”, priority 0" in founder.text
    assert len(founder.page.css("tbody tr")) == 12, "its next fire times"
    assert all(" 09:00" in cell for cell in founder.texts("td.figure:first-child")), "on the clock of its zone"


async def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(zora: Zora, founder: Visitor) -> None:
    await founder.open("/admin/schedules/new?agent=EIVOR&type=summarize_recent_events")
    await founder.post(
        NEW, status=400, **form(name=" ", cron="61 * * * *", timezone="Berlin", grace_seconds="9999", priority="x")
    )
    for name in ("name", "cron", "timezone", "grace_seconds", "priority"):
        assert founder.page.css_first(f"#own-{name}-error") is not None, name
        assert founder.page.css_first(f"#own-{name}").attributes["aria-invalid"] == "true"
    assert "invalid cron expression" in founder.text
    assert "Europe/Berlin" in founder.text
    assert founder.page.css_first("#own-cron").attributes["value"] == "61 * * * *"
    assert founder.page.css_first("input[name=agent]").attributes["value"] == "EIVOR", "the form can be sent again"
    assert await stored(zora) == []


async def test_a_payload_that_the_task_type_does_not_take_is_refused(zora: Zora, founder: Visitor) -> None:
    await founder.post(NEW, status=400, **form(**{"payload.days": "-3"}))
    assert founder.page.css_first("#payload-days-error") is not None
    assert founder.page.css_first("[name='payload.days']").attributes["value"] == "-3"
    assert await stored(zora) == []


async def test_a_name_that_is_taken_is_said_at_the_name(zora: Zora, founder: Visitor) -> None:
    await create(founder)
    await founder.post(NEW, status=400, **form(cron="@daily"))
    assert "exists already" in founder.page.css_first("#own-name-error").text()
    assert len(await stored(zora)) == 1
    path = await create(founder, name="Other")
    await founder.post(path, status=400, **form(name="Digest"))
    assert "exists already" in founder.page.css_first("#own-name-error").text()
    assert founder.page.css_first("details.edit").attributes.get("open", "no") != "no", "the form is in sight"


async def test_a_schedule_is_changed_and_what_is_the_same_is_not_written(zora: Zora, founder: Visitor) -> None:
    path = await create(founder, **{"payload.days": "3", "title": "A title"})
    before = len(await zora.call("list_journal_entries", tenant_id=zora.tenant_id, category="autonomy"))
    await founder.post(path, **form(title="A title", **{"payload.days": "3"}))
    assert founder.notice.startswith("Saved.")
    assert len(await zora.call("list_journal_entries", tenant_id=zora.tenant_id, category="autonomy")) == before
    await founder.post(path, **form(cron="@daily", timezone="UTC", misfire_policy="catch_up", **{"payload.days": "5"}))
    (row,) = await stored(zora)
    assert (row["cron"], row["timezone"], row["title"]) == ("@daily", "UTC", None)
    assert (row["payload"], row["misfire_policy"]) == ({"days": 5}, "catch_up")
    assert row["next_run_at"] is not None, "and its fire times are planned anew"
    await founder.post(path, status=400, **form(cron=""))
    assert "is required" in founder.page.css_first("#own-cron-error").text()


async def test_a_payload_with_defaults_written_out_is_left_as_it_is(zora: Zora, founder: Visitor) -> None:
    fields = {"name": "x", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "cron": "@daily"}
    payload = {"days": 7}
    (row,) = await zora.call("create_schedule", tenant_id=zora.tenant_id, schedule={**fields, "payload": payload})
    path = f"/admin/schedules/{row['id']}"
    await founder.open(path)
    days = founder.page.css_first("[name='payload.days']").attributes["value"]
    await founder.post(path, **form(name="y", cron="@daily", timezone="UTC", **{"payload.days": days}))
    (row,) = await stored(zora)
    assert (row["name"], row["payload"]) == ("y", payload)


async def test_a_schedule_of_a_task_type_that_is_gone_can_still_be_changed(zora: Zora, founder: Visitor) -> None:
    fields = {"name": "x", "agent_id": "SAM", "task_type": "gone", "cron": "@daily", "payload": {"a": 1}}
    (row,) = await zora.call("create_schedule", tenant_id=zora.tenant_id, schedule=fields)
    path = f"/admin/schedules/{row['id']}"
    await founder.open(path)
    assert "knows no task type gone" in founder.text
    await founder.post(path, **form(name="x", cron="@hourly", timezone="UTC"))
    (row,) = await stored(zora)
    assert (row["cron"], row["payload"]) == ("@hourly", {"a": 1})


async def test_a_schedule_is_paused_enabled_run_and_deleted(zora: Zora, founder: Visitor) -> None:
    path = await create(founder)
    await founder.open("/admin/schedules")
    assert founder.texts(".card .state") == ["enabled"]
    await founder.post(f"{path}/enabled", enabled="0")
    assert founder.here == "/admin/schedules"
    assert "is paused" in founder.notice
    assert founder.texts(".card .state") == ["paused"]
    assert (await stored(zora))[0]["next_run_at"] is None
    await founder.post(f"{path}/enabled", enabled="1")
    assert "Resumed. “Digest” runs next on" in founder.notice
    assert (await stored(zora))[0]["next_run_at"] is not None

    await founder.post(f"{path}/run-now")
    (row,) = await stored(zora)
    assert founder.here == f"/admin/agents/tasks/{row['last_task_id']}"
    assert founder.page.css_first("h1").text() == "Digest"
    await founder.open("/admin/schedules")
    assert founder.page.css_first(f".card a[href='/admin/agents/tasks/{row['last_task_id']}']") is not None

    await founder.open(path)
    await founder.post(f"{path}/delete")
    assert founder.here == "/admin/schedules"
    assert "Deleted the schedule “Digest”" in founder.notice
    assert await stored(zora) == []
    await founder.open(path, status=404)


async def test_the_next_day_is_drawn_with_a_tick_for_each_time(zora: Zora, founder: Visitor) -> None:
    await create(founder, name="Every six hours", cron="0 */6 * * *", timezone="UTC")
    await create(founder, name="New year", cron="@yearly")
    await founder.open("/admin/schedules")
    strip = founder.page.css_first(".strip svg")
    assert len(strip.css(".c-tick")) == 4
    assert "Every six hours" in strip.text()
    assert "New year" not in strip.text(), "only what comes in these hours is drawn"
    assert len(founder.page.css(".card.schedule")) == 2
    assert "every 6 hours at :00" in founder.text


async def test_a_paused_agent_a_problem_and_a_late_schedule_are_told(zora: Zora, founder: Visitor) -> None:
    await create(founder)
    await zora.sql("update autonomy_schedules set next_run_at = now() - interval '1 hour'")
    await founder.open("/admin/schedules")
    assert founder.texts(".card .state") == ["late"]
    assert "no worker runs it" in founder.text
    await zora.call("pause_agents", tenant_id=zora.tenant_id, agent_id="EIVOR")
    await founder.open("/admin/schedules")
    assert founder.texts(".card .state") == ["agent paused"]
    assert "EIVOR is paused" in founder.text
    await zora.sql("update autonomy_schedules set problem = $1", "unknown time zone 'Mars'")
    await founder.open("/admin/schedules")
    assert founder.texts(".card .state") == ["problem"]
    assert "unknown time zone 'Mars'" in founder.text


async def test_a_schedule_is_found_by_its_name_and_the_end_of_its_id(zora: Zora, founder: Visitor) -> None:
    path = await create(founder)
    for given in ("Digest", path[-8:]):
        await founder.open(f"/admin/schedules/{given}")
        assert founder.here == path
    await founder.open("/admin/schedules/nothing", status=404)


async def test_viewers_and_members_read_and_are_offered_and_allowed_nothing(zora: Zora, visitors: Visitors) -> None:
    admin = await visitors(Role.BRAND_ADMIN)
    path = await create(admin)
    for role in (Role.VIEWER, Role.MEMBER):
        visitor = await visitors(role)
        for here in ("/admin/schedules", path):
            await visitor.open(here)
            assert "Digest" in visitor.text
            assert not visitor.page.css("main form"), role
            assert visitor.page.css_first(f"a[href='{NEW}']") is None
        await visitor.open(NEW, status=403)
        for action in ("", "/enabled", "/run-now", "/delete"):
            await visitor.open("/admin/schedules")
            await visitor.post(f"{path}{action}", status=403, **form())
        await visitor.open("/admin/schedules")
        await visitor.post(NEW, status=403, **form(name="Another"))
    agent = await visitors(Role.FOUNDER, agent_id="EIVOR")
    await agent.open(path)
    assert not agent.page.css("main form"), "people decide about schedules"
    await agent.post(f"{path}/delete", status=403)
    assert [row["name"] for row in await stored(zora)] == ["Digest"]


async def test_a_form_without_the_pages_token_does_nothing(zora: Zora, founder: Visitor) -> None:
    path = await create(founder)
    await founder.post(f"{path}/delete", status=403, token="x")
    assert len(await stored(zora)) == 1


async def test_tenants_see_and_change_only_their_own_schedules(
    zora: Zora, founder: Visitor, visitors: Visitors
) -> None:
    path = await create(founder)
    other = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await other.open("/admin/schedules")
    assert "No schedules yet." in other.text
    await other.open(path, status=404)
    await other.open("/admin/schedules")
    for action in ("/enabled", "/run-now", "/delete"):
        await other.post(f"{path}{action}")
        assert "No schedule" in other.notice, action
    assert (await stored(zora))[0]["enabled"]


async def test_hostile_text_is_text(founder: Visitor) -> None:
    path = await create(founder, name=HOSTILE, title=HOSTILE, cron="*/5 * * * *")
    for here in ("/admin/schedules", path):
        await founder.open(here)
        assert HOSTILE in founder.text
        assert "<script>alert" not in founder.answer.text
