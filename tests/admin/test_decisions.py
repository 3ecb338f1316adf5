"""People approve what they see: pages show what is approved whole, and as it is in the rows now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tests.admin.conftest import Visitor
from tests.admin.test_tasks import mission, propose
from tests.conftest import Zora
from tests.database.test_suggestions import policy, suggest
from tests.database.test_suggestions import propose as made_by_a_run

INBOX = "/admin/agents/tasks"


def page_of(suggestion: Any) -> str:
    return f"/admin/agents/suggestions/{suggestion}"


@pytest.fixture
async def own_table(zora: Zora) -> AsyncIterator[None]:
    await zora.sql(
        "create table shop_products (id bigint generated always as identity primary key, tenant_id uuid not null, "
        "name text not null, price numeric not null)"
    )
    await zora.sql("insert into shop_products (tenant_id, name, price) values ($1, 'Mug', 9.5)", zora.tenant_id)
    await zora.call(
        "register_effect_table", tenant_id=zora.tenant_id, name="shop_products", key_column="id", writable=["price"],
        rests_on=["name", "price"],
    )  # fmt: skip
    yield
    await zora.sql("drop table if exists shop_products")


def price(value: Any) -> dict[str, Any]:
    change = {"op": "update", "table": "shop_products", "key": "1", "before": {}, "after": {"price": value}}
    return {**mission("New price"), "suggestion_type": "change_price", "effect": {"changes": [change]}}


async def test_the_proposers_words_do_not_stand_for_a_row(zora: Zora, founder: Visitor) -> None:
    secret = await zora.seed(
        "memory_events", agent="EIVOR", memory_type="plan", content="The safety review of the plant", tags=[]
    )
    proposed = suggest(
        "archive_memories", {"ids": [str(secret)]}, {str(secret): {"content": "an old shopping list"}},
        {"archive": [str(secret)]},
    )  # fmt: skip
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="m@example.org", role="member")
    (row,) = await zora.call(
        "propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="EIVOR", suggestion=proposed, user_id=user["id"]
    )
    page = await founder.open(page_of(row["id"]))
    assert "The safety review of the plant" in page.css_first(".change").text()
    assert "changed since" in founder.text
    assert "when it was proposed: an old shopping list" in founder.text, "as a claim, where it differs"
    assert "Proposed by m@example.org in the name of EIVOR" in founder.text


@pytest.mark.parametrize("length", [300, 20_000])
async def test_a_task_that_asks_to_run_is_shown_whole(zora: Zora, founder: Visitor, length: int) -> None:
    await policy(zora, "plan_workflow", auto_execute=False)
    goal = "word " * (length // 5) + "and delete everything"
    await zora.create("LUMINA", "plan_workflow", {"goal": goal}, title="Plan", description="Read this, too")
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await founder.open(page_of(asked["id"]))
    for part in (goal, "Read this, too", "plan_workflow"):
        assert part in founder.answer.text
    card = (await founder.open(INBOX)).css_first(".card")
    approve = card.css_first("button[value=approve]")
    whole = goal in card.text()
    assert whole == (approve is not None), "a list approves only what it shows whole"
    assert whole == (length == 300)
    assert whole or card.css_first("a.button").attributes["href"] == page_of(asked["id"])


async def test_every_change_of_many_is_shown(zora: Zora, founder: Visitor) -> None:
    ids = [
        str(await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content=f"Memory {n}.", tags=[]))
        for n in range(80)
    ]
    (row,) = await made_by_a_run(zora, suggest("archive_memories", {"ids": ids}, None, {"archive": ids}))
    page = await founder.open(page_of(row["id"]))
    assert len(page.css(".change")) == 80
    assert all(f"Memory {n}." in founder.answer.text for n in range(80))
    assert (await founder.open(INBOX)).css_first(".card button[value=approve]") is None


async def test_a_type_that_is_not_loaded_is_told_by_its_changes_and_is_not_advice(
    zora: Zora, founder: Visitor, own_table: None
) -> None:
    (row,) = await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=price(12))
    page = await founder.open(page_of(row["id"]))
    assert page.css_first(".lead").text() == "Changes a row of shop_products."
    assert "dvice" not in page.css_first("article").text()
    assert tuple(cell.text().strip() for cell in page.css("table.diff tr")[-1].css("td")) == ("9.5", "12")
    digest = page.css_first("input[name=digest]").attributes["value"]
    await founder.post(f"{page_of(row['id'])}/decision", decision="approve", digest=digest)
    assert founder.notice.startswith("Applied")


async def test_one_bad_suggestion_does_not_block_the_inbox(zora: Zora, founder: Visitor, own_table: None) -> None:
    (gone,) = await zora.call(
        "propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=price(12)
    )
    await zora.sql("drop table shop_products")
    good = await propose(zora)
    broken: list[UUID] = []
    for effect in ('"nonsense"', '{"changes": "all"}', '{"changes": [7]}', '{"changes": [{"op": "insert"}]}',
                   '{"changes": [{"op": "update", "table": "users", "key": "x", "before": {}, "after": {"role": 1}}]}',
                   '{"changes": [{"op": "update", "table": "memory_events", "key": "7", "before": {}, "after": {}}]}',
                   '{}'):  # fmt: skip
        broken.append(await propose(zora, f"Broken {len(broken)}"))
        await zora.sql("update agent_suggestions set effect = $1 where id = $2", effect, broken[-1])
    page = await founder.open(INBOX)
    assert len(page.css(".card")) == len(broken) + 2
    assert page.css_first(f"#s-{good} button[value=approve]") is not None
    for one in (gone["id"], *broken):
        card = page.css_first(f"#s-{one}")
        assert card.css_first("button[value=approve]") is None, card.text()
        assert "cannot be approved" in card.text()
        assert card.css_first("button[value=reject]") is not None
        await founder.open(page_of(one))
        await founder.post(f"{page_of(one)}/decision", decision="reject", reason="broken")
        assert founder.notice.startswith("Rejected")
        await founder.open(INBOX)
    assert [card.attributes["id"] for card in founder.page.css(".card")] == [f"s-{good}"]


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (
            ["alter table shop_products rename tenant_id to org_id"],
            "has lost columns since it was registered: tenant_id",
        ),
        (["revoke all on shop_products from zora_api"], "permission denied for table shop_products"),
        (
            ["create policy bad on shop_products as restrictive using ((1 / (price::integer - price::integer)) > 0)"],
            "division by zero",
        ),
        (
            [
                "create or replace function shop_check() returns trigger language plpgsql as "
                "$$ begin raise exception 'frozen in the audit'; end $$",
                "create trigger shop_check before update on shop_products for each row execute function shop_check()",
            ],
            "frozen in the audit",
        ),
    ],
)
async def test_what_the_owner_did_to_a_table_is_the_reason_on_its_card_and_the_inbox_goes_on(
    zora: Zora, founder: Visitor, own_table: None, statements: list[str], reason: str
) -> None:
    (bad,) = await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=price(12))
    good = await propose(zora)
    for statement in statements:
        await zora.sql(statement)
    page = await founder.open(INBOX)
    assert page.css_first(f"#s-{good} button[value=approve]") is not None
    if (card := page.css_first(f"#s-{bad['id']}")).css_first("button[value=approve]") is None:
        assert reason in card.text()
    await founder.post(f"{page_of(bad['id'])}/decision", decision="approve", digest=bad["effect_digest"])
    assert reason in founder.notice
    await founder.post(f"{page_of(bad['id'])}/decision", decision="reject", reason="broken")
    assert founder.notice.startswith("Rejected")


async def test_what_a_policy_applied_is_told(zora: Zora, founder: Visitor) -> None:
    await policy(zora, max_risk_level="low")
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    target = {"page": "climate", "path": ["title"]}
    (row,) = await made_by_a_run(zora, suggest("change_frontend_config", target, None, {"value": "New"}))
    await zora.call("attend_agent_suggestions")
    await founder.open(f"{INBOX}/{row['task_id']}")
    assert "A policy allows all 1 suggestions: applied without asking." not in founder.text
    assert "A policy allows the suggestion: applied without asking." in founder.text
    assert "applied by policy" in founder.text


async def test_what_is_no_longer_found_says_by_which_task(zora: Zora, founder: Visitor) -> None:
    page = "<title>Mugs</title><p>{}</p>"
    for text in ("Our mugs are 100% carbon neutral.", "We sell mugs."):
        task = await zora.run("SAM", "review_climate_page", {"html": page.format(text)})
    (closed,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="superseded")
    shown = await founder.open(page_of(closed["id"]))
    assert "No longer found by a later task" in founder.text
    assert shown.css_first(f'.notice a[href="{INBOX}/{task.id}"]') is not None
