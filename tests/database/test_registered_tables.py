"""An approved effect writes exactly what was shown: one row, the named columns, the values in the effect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Zora
from tests.database.test_suggestions import decide, page, stored, suggest, undo
from zora_core.errors import InvalidInput, InvalidState

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]
PLAIN = "id int primary key, tenant_id uuid not null, price numeric, note text"


class Shop:
    """The owner's table `shop_prices`, and proposals on it."""

    def __init__(self, zora: Zora) -> None:
        """Nothing is created yet."""
        self.zora = zora

    async def create(self, columns: str = PLAIN, more: str = "", name: str = "shop_prices") -> None:
        """Create the table."""
        await self.zora.sql(f"create table {name} ({columns}) {more}")
        await self.open(name)

    async def open(self, name: str = "shop_prices") -> None:
        """Give Supabase's role the rights that it has on every table made there."""
        if await self.zora.sql("select from pg_roles where rolname = 'service_role'"):
            await self.zora.sql(f"grant all on {name} to service_role")

    async def insert(self, columns: str, *rows: str) -> None:
        """Insert rows of the tenant; the first column of each is added."""
        values = ", ".join(f"('{self.zora.tenant_id}', {row})" for row in rows)
        await self.zora.sql(f"insert into shop_prices (tenant_id, {columns}) values {values}")

    async def register(self, **fields: Any) -> Row:
        """Register the table."""
        arguments = {"name": "shop_prices", "key_column": "id", "writable": ["price"], **fields}
        (row,) = await self.zora.call("register_effect_table", tenant_id=self.zora.tenant_id, **arguments)
        return row

    async def propose(self, *changes: Row) -> Row:
        """Propose an effect outside of a run."""
        full = [{"table": "shop_prices", **change} for change in changes]
        made = suggest("advice", {"rows": repr(changes)}, None, None) | {"suggestion_type": "change_price"}
        (row,) = await self.zora.call(
            "propose_agent_suggestion",
            tenant_id=self.zora.tenant_id,
            agent_id="SAM",
            suggestion={**made, "effect": {"changes": full}},
        )
        return row

    async def refuses(self, suggestion: Row, reason: str) -> None:
        """An approval fails with this reason, and nothing changes."""
        before = await self.rows()
        with pytest.raises(InvalidState, match=reason):
            await decide(self.zora, suggestion)
        assert await self.rows() == before
        assert (await stored(self.zora, suggestion))["status"] == "proposed"

    async def preview(self, suggestion: Row) -> list[Row]:
        """The preview of a suggestion."""
        return await self.zora.call("preview_agent_suggestion", tenant_id=self.zora.tenant_id, id=suggestion["id"])

    async def rows(self, columns: str = "*") -> list[Row]:
        """The rows of the table."""
        found = await self.zora.sql(f"select {columns} from shop_prices as shop_row order by shop_row.*::text")
        return [dict(row) for row in found]


@pytest.fixture
async def shop(zora: Zora) -> AsyncIterator[Shop]:
    """An empty shop, removed afterwards."""
    yield Shop(zora)
    await zora.sql("drop table if exists shop_prices, shop_prices_old, shop_children, shop_log cascade")
    await zora.sql("drop function if exists shop_trigger")


def update(price: Any = 1, key: Any = "1", **fields: Any) -> Row:
    """A change of a price."""
    return {"op": "update", "key": key, "before": {}, "after": {"price": price}, **fields}


# --- A key names one row ----------------------------------------------------------------------------------------------

KEYS = {
    "no index": ("id int, tenant_id uuid, price numeric", "", False),
    "index that is not unique": (
        "id int, tenant_id uuid, price numeric", "create index on shop_prices (id)", False),
    "unique with another column": (
        "id int, tenant_id uuid, price numeric, currency text, unique (id, currency)", "", False),
    "unique with a condition": (
        "id int, tenant_id uuid, price numeric", "create unique index on shop_prices (id) where price > 0", False),
    "unique expression": (
        "id int, tenant_id uuid, price numeric", "create unique index on shop_prices (abs(id))", False),
    "unique in another column, with the key included": (
        "id int, tenant_id uuid unique, price numeric",
        "create unique index on shop_prices (tenant_id) include (id)", False),
    "unique": ("id int unique, tenant_id uuid, price numeric", "", True),
    "unique for each tenant": ("id int, tenant_id uuid, price numeric, unique (tenant_id, id)", "", True),
    "primary key with the tenant": ("id int, tenant_id uuid, price numeric, primary key (id, tenant_id)", "", True),
    "partitioned and not unique": (
        "id int, tenant_id uuid, price numeric) partition by list (price", "", False),
    "partitioned by tenant": (
        "id int, tenant_id uuid, price numeric, primary key (tenant_id, id)) partition by hash (tenant_id", "", True),
}  # fmt: skip


@pytest.mark.parametrize("case", KEYS)
async def test_only_a_key_that_is_unique_in_each_tenant_can_be_registered(shop: Shop, case: str) -> None:
    columns, statement, unique = KEYS[case]
    await shop.create(columns)
    if statement:
        await shop.zora.sql(statement)
    if unique:
        await shop.register()
    else:
        with pytest.raises(InvalidInput, match="key column id of the table shop_prices is not unique"):
            await shop.register()


@pytest.mark.parametrize(
    "change", [update(), {"op": "delete", "row": {"id": 1, "price": 10}}], ids=["update", "delete"]
)
async def test_a_key_that_is_no_longer_unique_changes_no_row(shop: Shop, change: Row) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.register()
    suggestion = await shop.propose(change)
    await shop.zora.sql("alter table shop_prices drop constraint shop_prices_pkey")
    await shop.insert("id, price", "1, 10")
    await shop.refuses(suggestion, "2 rows of the table shop_prices have the key 1")
    with pytest.raises(InvalidInput, match="2 rows of the table shop_prices have the key 1"):
        await shop.preview(suggestion)
    with pytest.raises(InvalidInput, match="2 rows of the table shop_prices have the key 1"):
        await shop.propose(update(2))


async def test_an_undo_changes_no_second_row(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.register()
    suggestion = await shop.propose(update())
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    await shop.zora.sql("alter table shop_prices drop constraint shop_prices_pkey")
    await shop.insert("id, price", "1, 1")
    with pytest.raises(InvalidState, match="2 rows"):
        await undo(shop.zora, suggestion)
    assert [row["price"] for row in await shop.rows()] == [1, 1]


async def test_a_row_of_an_inheriting_table_with_the_same_key_is_not_changed(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.register()
    suggestion = await shop.propose(update())
    await shop.zora.sql("create table shop_children () inherits (shop_prices)")
    await shop.zora.sql("insert into shop_children (tenant_id, id, price) values ($1, 1, 10)", shop.zora.tenant_id)
    await shop.refuses(suggestion, "2 rows")


async def test_a_partitioned_table_is_changed_and_restored(shop: Shop) -> None:
    await shop.create("id int, tenant_id uuid, price numeric, primary key (id)) partition by range (id")
    await shop.zora.sql("create table shop_children partition of shop_prices for values from (0) to (9)")
    await shop.insert("id, price", "1, 10")
    await shop.register()
    suggestion = await shop.propose(update())
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    assert (await shop.rows("price")) == [{"price": 1}]
    await undo(shop.zora, suggestion)
    assert (await shop.rows("price")) == [{"price": 10}]


TEXT_KEYS = {
    "character": ("character(3)", "'EUR', 10", "'E', 12", "EUR", "EUR"),
    "character, padded": ("character(4)", "'EUR', 10", "'E', 12", "EUR", "EUR "),
    "numeric": ("numeric", "1.0, 10", "2, 12", "1", "1.0"),
    "integer": ("int", "1, 10", "2, 12", " 01 ", "1"),
    "bit": ('"bit"', "'10', 10", "'1', 12", "10", "10"),
    "varying": ("varchar(3)", "'EUR', 10", "'E', 12", "EUR", "EUR"),
}


@pytest.mark.parametrize("case", TEXT_KEYS)
async def test_the_effect_shows_the_key_of_the_row_as_the_row_has_it(shop: Shop, case: str) -> None:
    kind, first, second, given, shown = TEXT_KEYS[case]
    await shop.create(f"id {kind} primary key, tenant_id uuid not null, price numeric")
    await shop.insert("id, price", first, second)
    await shop.register()
    suggestion = await shop.propose(update(key=given))
    (change,) = suggestion["effect"]["changes"]
    assert (change["key"], change["before"]) == (shown, {"price": 10})
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    assert sorted(row["price"] for row in await shop.rows("price")) == [1, 12]
    await undo(shop.zora, suggestion)
    assert sorted(row["price"] for row in await shop.rows("price")) == [10, 12]


async def test_a_key_that_is_too_long_does_not_name_a_shorter_one(shop: Shop) -> None:
    await shop.create("id varchar(3) primary key, tenant_id uuid not null, price numeric")
    await shop.insert("id, price", "'EUR', 10")
    await shop.register()
    with pytest.raises(InvalidInput, match="does not exist"):
        await shop.propose(update(key="EURO"))


# --- Every column that a change names exists --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        update(before={"note": "cheap", "colour": None}),
        {"op": "expect", "key": "1", "before": {"colour": None}},
        {"op": "delete", "row": {"id": 1, "price": 10, "note": "cheap", "colour": None}},
    ],
    ids=["update", "expect", "delete"],
)
async def test_a_column_that_does_not_exist_is_refused_when_it_is_proposed(shop: Shop, change: Row) -> None:
    await shop.create()
    await shop.insert("id, price, note", "1, 10, 'cheap'")
    await shop.register()
    with pytest.raises(InvalidInput, match="names columns that the table shop_prices does not have: colour"):
        await shop.propose(change)


@pytest.mark.parametrize("told", [True, False], ids=["named by the proposal", "named by the registration"])
async def test_a_renamed_column_does_not_take_the_precondition_away(shop: Shop, told: bool) -> None:
    await shop.create()
    await shop.insert("id, price, note", "1, 10, 'cheap'")
    await shop.register(rests_on=["price"] if told else ["note"])
    suggestion = await shop.propose(update(before={"note": "cheap"} if told else {}))
    await shop.zora.sql("alter table shop_prices rename note to remark")
    await shop.zora.sql("update shop_prices set remark = 'do not sell below 10'")
    if not told:
        await shop.refuses(suggestion, "note")
        await shop.register(rests_on=["remark"])
    await shop.refuses(suggestion, "does not have: note")
    with pytest.raises(InvalidInput, match="does not have: note"):
        await shop.preview(suggestion)


async def test_an_undo_does_not_remove_a_row_whose_renamed_column_was_written_since(shop: Shop) -> None:
    await shop.create("id int generated by default as identity primary key, tenant_id uuid, price numeric, note text")
    await shop.register()
    suggestion = await shop.propose({"op": "insert", "row": {"price": 10}})
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    await shop.zora.sql("alter table shop_prices rename note to remark")
    await shop.zora.sql("update shop_prices set remark = 'important'")
    with pytest.raises(InvalidState, match="does not have: note"):
        await undo(shop.zora, suggestion)
    assert len(await shop.rows()) == 1


# --- Columns and tables with any name ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r", "t", "k", "shop_prices", "v_row", "row", "%s"])
async def test_a_column_named_like_an_alias_is_a_column_like_any_other(shop: Shop, name: str) -> None:
    await shop.create(
        f'id int generated by default as identity primary key, tenant_id uuid, price numeric, note text, "{name}" jsonb'
    )
    await shop.insert(f'id, price, "{name}"', """1, 10, '{"price": 10, "tenant_id": 5}'""")
    await shop.zora.sql("alter sequence shop_prices_id_seq restart with 2")
    await shop.register(writable=["price", name])
    suggestion = await shop.propose(update(before={"price": 10}))
    assert set(suggestion["effect"]["changes"][0]["before"]) == {"price", name}
    await shop.zora.sql("update shop_prices set price = 99")
    assert (await decide(shop.zora, suggestion))["status"] == "superseded"
    assert await shop.rows("price") == [{"price": 99}]

    both = await shop.propose(
        {**update(5), "after": {name: {"a": 1}, "price": 5}}, {"op": "insert", "row": {"price": 3}}
    )
    assert (await decide(shop.zora, both))["status"] == "applied"
    assert [row["price"] for row in await shop.rows("price, id")] == [5, 3]
    await undo(shop.zora, both)
    assert await shop.rows("price") == [{"price": 99}]

    nested = await shop.propose({**update(), "path": ["price"], "after": {name: 7}})
    assert (await decide(shop.zora, nested))["status"] == "applied"
    await undo(shop.zora, nested)


@pytest.mark.parametrize("name", ["date", "text", "point"])
async def test_a_table_named_like_a_type_is_changed_and_restored(shop: Shop, name: str) -> None:
    await shop.create(name=f'"{name}"')
    try:
        await shop.zora.sql(f'insert into "{name}" (tenant_id, id, price) values ($1, 1, 10)', shop.zora.tenant_id)
        await shop.register(name=name)
        suggestion = await shop.propose({**update(), "table": name})
        assert (await decide(shop.zora, suggestion))["status"] == "applied"
        await undo(shop.zora, suggestion)
        assert [row["price"] for row in await shop.zora.sql(f'select price from "{name}"')] == [10]
    finally:
        await shop.zora.sql(f'drop table "{name}"')


# --- A suggestion belongs to the registration under which it was made -------------------------------------------------


async def test_another_key_column_does_not_turn_a_suggestion_to_another_row(shop: Shop) -> None:
    await shop.create("id int primary key, num int unique, tenant_id uuid, price numeric")
    await shop.insert("id, num, price", "1, 2, 10", "2, 1, 10")
    await shop.register()
    waiting, done = await shop.propose(update()), await shop.propose(update(key="2"))
    assert (await decide(shop.zora, done))["status"] == "applied"
    await shop.zora.sql("update shop_prices set price = 1")
    await shop.register(key_column="num")
    await shop.refuses(waiting, "an earlier registration of the table shop_prices")
    with pytest.raises(InvalidInput, match="an earlier registration"):
        await shop.preview(waiting)
    with pytest.raises(InvalidState, match="an earlier registration"):
        await undo(shop.zora, done)
    assert [row["price"] for row in await shop.rows("price")] == [1, 1]


async def test_a_new_table_under_the_old_name_is_not_changed(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.register()
    suggestion = await shop.propose(update())
    await shop.zora.sql("alter table shop_prices rename to shop_prices_old")
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.refuses(suggestion, "the table shop_prices, which is not the one that was registered")
    with pytest.raises(InvalidInput, match="not the one that was registered"):
        await shop.propose(update(2))
    await shop.register()
    await shop.refuses(suggestion, "an earlier registration of the table shop_prices")
    fresh = await shop.propose(update(3))
    assert (await decide(shop.zora, fresh))["status"] == "applied"


async def test_registering_a_table_again_as_it_was_keeps_its_suggestions(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price, note", "1, 10, 'cheap'")
    first = await shop.register()
    suggestion = await shop.propose(update())
    again = await shop.register(writable=["price", "note"])
    assert first["registration"] == again["registration"]
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    await shop.zora.call("remove_effect_table", tenant_id=shop.zora.tenant_id, name="shop_prices")
    await shop.register()
    with pytest.raises(InvalidState, match="an earlier registration"):
        await undo(shop.zora, suggestion)


async def test_a_proposer_cannot_choose_the_registration(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    registered = await shop.register()
    suggestion = await shop.propose(update(registration="mine"))
    assert suggestion["effect"]["changes"][0]["registration"] == str(registered["registration"])


async def test_a_registration_that_was_restored_into_another_database_finds_its_table_by_name(shop: Shop) -> None:
    """Identifiers of tables differ there."""
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.register()
    suggestion = await shop.propose(update())
    await shop.zora.sql("update effect_tables set identity = 'another database ' || identity")
    assert (await decide(shop.zora, suggestion))["status"] == "applied"


# --- What stands there afterwards is what was approved ----------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [["theme", "colour"], ["a", "x"], ["l", "7"], ["l", "-9"], ["l", "x"], ["l", "0", "y"], ["none", "a", "b"]]
)
async def test_a_place_that_cannot_be_written_is_refused_when_it_is_proposed(zora: Zora, path: list[str]) -> None:
    await zora.seed("frontend_configs", page="climate", config={"a": 1, "l": [1, 2]})
    made = suggest("change_frontend_config", {"page": "climate", "path": path}, None, {"value": "red"})
    with pytest.raises(InvalidInput, match=f"config cannot hold this value at {'.'.join(path)}"):
        await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=made)


@pytest.mark.parametrize(
    ("path", "value"),
    [(["a"], None), (["b"], 2), (["l", "2"], 3), (["l", "-1"], 3), (["l", "1"], None), (["o", "k"], {})],
)
async def test_a_place_that_can_be_written_is_written_and_restored(zora: Zora, path: list[str], value: Any) -> None:
    config = {"a": 1, "l": [1, 2], "o": {}}
    await zora.seed("frontend_configs", page="climate", config=config)
    made = suggest("change_frontend_config", {"page": "climate", "path": path}, None, {"value": value})
    (suggestion,) = await zora.call(
        "propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=made
    )
    assert (await decide(zora, suggestion))["status"] == "applied"
    assert await page(zora) != config
    await undo(zora, suggestion)
    assert await page(zora) == config


async def test_an_approval_whose_place_is_gone_is_not_applied(zora: Zora) -> None:
    await zora.seed("frontend_configs", page="climate", config={"theme": {}})
    made = suggest("change_frontend_config", {"page": "climate", "path": ["theme", "colour"]}, None, {"value": "red"})
    (suggestion,) = await zora.call(
        "propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=made
    )
    await zora.sql("update frontend_configs set config = '{}'")
    with pytest.raises(InvalidState, match="config of frontend_configs would not be"):
        await decide(zora, suggestion)
    assert await page(zora) == {}
    assert (await stored(zora, suggestion))["status"] == "proposed"


WRITERS = {
    "before": ("before update", "new.price := 5; return new"),
    "before insert": ("before insert", "new.price := 5; return new"),
    "after": ("after update", "update shop_prices set price = 5 where id = new.id and price <> 5; return null"),
    "at the commit": (
        "deferred", "update shop_prices set price = 5 where id = new.id and price <> 5; return null"),
    "another key": ("before update", "new.id := 7; return new"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITERS)
async def test_a_trigger_that_writes_another_value_keeps_the_change_from_being_applied(shop: Shop, case: str) -> None:
    when, body = WRITERS[case]
    await shop.create(PLAIN.replace("id int", "id int generated by default as identity"))
    await shop.insert("id, price", "100, 10")
    await shop.register()
    change = {"op": "insert", "row": {"price": 1}} if case == "before insert" else update(key="100")
    suggestion = await shop.propose(change)
    await shop.zora.sql(f"create function shop_trigger() returns trigger language plpgsql as $$ begin {body}; end $$")
    kind, time, more = (
        ("constraint ", "after update", "deferrable initially deferred") if when == "deferred" else ("", when, "")
    )
    await shop.zora.sql(
        f"create {kind}trigger shop_trigger {time} on shop_prices {more} for each row execute function shop_trigger()"
    )
    await shop.refuses(suggestion, "of shop_prices would not be what was approved")


async def test_a_trigger_may_write_other_columns_and_the_undo_still_works(shop: Shop) -> None:
    await shop.create(PLAIN.replace("id int", "id int generated by default as identity"))
    await shop.insert("id, price, note", "100, 10, 'old'")
    await shop.register()
    await shop.zora.sql(
        "create function shop_trigger() returns trigger language plpgsql as $$ begin "
        "update shop_prices set note = 'seen' where id = new.id and note is distinct from 'seen'; return null; end $$"
    )
    await shop.zora.sql(
        "create trigger shop_trigger after insert or update on shop_prices for each row execute function shop_trigger()"
    )
    suggestion = await shop.propose(update(key="100"), {"op": "insert", "row": {"price": 3}})
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    assert await shop.rows("price, note") == [{"price": 3, "note": "seen"}, {"price": 1, "note": "seen"}]
    await undo(shop.zora, suggestion)
    assert await shop.rows("price, note") == [{"price": 10, "note": "seen"}]


async def test_a_rule_that_writes_elsewhere_keeps_the_change_from_being_applied(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.zora.sql("create table shop_log (id int, price numeric)")
    await shop.register()
    suggestion = await shop.propose(update())
    await shop.zora.sql(
        "create rule shop_rule as on update to shop_prices do instead insert into shop_log values (new.id, new.price)"
    )
    with pytest.raises(InvalidState, match="cannot be applied"):
        await decide(shop.zora, suggestion)
    assert await shop.zora.sql("select from shop_log") == []


async def test_the_effect_shows_values_as_the_columns_hold_them(shop: Shop) -> None:
    """A rounded number and a relative date are what is approved, not what they would be later."""
    await shop.create("id int primary key, tenant_id uuid, price numeric(6, 1), code character(4), until date")
    await shop.insert("id, price, code, until", "1, 10, 'A', '2020-01-01'")
    await shop.register(writable=["price", "code", "until"])
    suggestion = await shop.propose(
        {**update(), "before": {"until": "01/01/2020"}, "after": {"price": "1.25", "code": "B", "until": "epoch"}}
    )
    (change,) = suggestion["effect"]["changes"]
    assert change["after"] == {"price": 1.3, "code": "B   ", "until": "1970-01-01"}
    assert change["before"] == {"price": 10.0, "code": "A   ", "until": "2020-01-01"}
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    await undo(shop.zora, suggestion)


async def test_two_changes_that_write_one_place_are_not_applied(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.register()
    await shop.refuses(await shop.propose(update(1), update(2, key="01")), "would not be what was approved")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("doubled numeric generated always as (price * 2) stored", "generated"),
        ("doubled int generated always as identity", "generated"),
    ],
)
async def test_a_generated_column_cannot_be_writable(shop: Shop, column: str, message: str) -> None:
    await shop.create(f"{PLAIN}, {column}")
    with pytest.raises(InvalidInput, match=f"doubled of the table shop_prices is {message}"):
        await shop.register(writable=["price", "doubled"])
    await shop.register(rests_on=["doubled"])
    await shop.insert("id, price", "1, 10")
    suggestion = await shop.propose(update())
    assert (await decide(shop.zora, suggestion))["status"] == "applied"
    await undo(shop.zora, suggestion)


async def test_an_update_cannot_write_the_key_of_a_row(shop: Shop) -> None:
    await shop.create()
    await shop.insert("id, price", "1, 10")
    await shop.register(writable=["id", "price"])
    with pytest.raises(InvalidInput, match="writes the key column id"):
        await shop.propose({**update(), "after": {"id": 2}})
