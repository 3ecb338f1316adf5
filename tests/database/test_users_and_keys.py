"""Users and API keys: who gets one, until when it works, and what nobody gets to see."""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import START, Zora
from zora_core.api.keys import NewKey, new_key
from zora_core.errors import InvalidInput, InvalidState, NotFound

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]


async def user(zora: Zora, email: str = "ada@example.org", role: str | None = None) -> Row:
    (row,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email=email, role=role)
    return row


async def create(
    zora: Zora, name: str = "ci", *, owner: Row | None = None, expires_at: datetime | None = None
) -> tuple[NewKey, Row]:
    new = new_key()
    (row,) = await zora.call(
        "create_api_key",
        tenant_id=zora.tenant_id,
        user_id=(owner or await user(zora))["id"],
        name=name,
        prefix=new.prefix,
        hash=new.hash,
        expires_at=expires_at,
    )
    return new, row


async def revoke(zora: Zora, key: str, tenant_id: UUID | None = None) -> Row:
    (row,) = await zora.call("revoke_api_key", tenant_id=tenant_id or zora.tenant_id, key=key)
    return row


async def working(zora: Zora, *keys: NewKey) -> list[Row]:
    return await zora.call("working_api_keys", prefixes=[key.prefix for key in keys])


async def works(zora: Zora, key: NewKey) -> bool:
    return bool(await working(zora, key))


async def states(zora: Zora) -> dict[str, str]:
    return {row["name"]: row["state"] for row in await zora.call("list_api_keys", tenant_id=zora.tenant_id)}


async def another_tenant(zora: Zora) -> UUID:
    (row,) = await zora.sql("insert into tenants (name, slug) values ('other', 'other') returning id")
    return row["id"]


async def journal(zora: Zora) -> list[Row]:
    return await zora.call("list_journal_entries", tenant_id=zora.tenant_id)


async def test_a_working_key_tells_whom_it_stands_for(zora: Zora) -> None:
    owner = await user(zora, role="brand_admin")
    new, row = await create(zora, owner=owner)
    assert (row["email"], row["role"], row["created_at"], row["expires_at"]) == (
        "ada@example.org", "brand_admin", START, None,
    )  # fmt: skip
    assert await working(zora, new, new_key()) == [
        {
            "prefix": new.prefix,
            "hash": new.hash,
            "kind": "key",
            "tenant_id": zora.tenant_id,
            "user_id": owner["id"],
            "email": "ada@example.org",
            "role": "brand_admin",
            "agent_id": None,
        }
    ]


async def test_a_key_has_the_role_that_its_user_has_now(zora: Zora) -> None:
    new, _ = await create(zora, owner=await user(zora, role="founder"))
    await zora.sql("update users set role = 'viewer'")
    assert [row["role"] for row in await working(zora, new)] == ["viewer"]


@pytest.mark.parametrize("named_by", ["prefix", "id"])
async def test_a_key_works_until_it_is_revoked(zora: Zora, named_by: str) -> None:
    new, row = await create(zora)
    other, _ = await create(zora, "other")
    await zora.advance(days=10_000)
    assert await works(zora, new)
    revoked = await revoke(zora, str(row[named_by]))
    assert (revoked["id"], revoked["revoked_at"]) == (row["id"], zora.now)
    assert not await works(zora, new)
    assert await works(zora, other)


async def test_a_key_works_until_it_expires(zora: Zora) -> None:
    new, _ = await create(zora, expires_at=START + timedelta(days=7))
    await zora.advance(days=7, microseconds=-1)
    assert (await works(zora, new), await states(zora)) == (True, {"ci": "works"})
    await zora.advance(microseconds=1)
    assert (await works(zora, new), await states(zora)) == (False, {"ci": "expired"})


async def test_a_key_that_would_have_expired_already_is_refused(zora: Zora) -> None:
    owner = await user(zora)
    with pytest.raises(InvalidInput, match="would have expired already, at 2026-03-02"):
        await create(zora, owner=owner, expires_at=START)
    assert await zora.sql("select from api_keys") == []


async def test_the_list_tells_the_state_of_each_key_newest_first(zora: Zora) -> None:
    for name, days in (("a", None), ("b", 1), ("c", 2), ("d", 3)):
        await create(zora, name, expires_at=START + timedelta(days=days) if days else None)
        await zora.advance(seconds=1)
    (row,) = await zora.sql("select prefix from api_keys where name = 'b'")
    await revoke(zora, row["prefix"])
    await zora.advance(days=2)
    assert list((await states(zora)).items()) == [("d", "works"), ("c", "expired"), ("b", "revoked"), ("a", "works")]
    await zora.advance(days=2)
    assert (await states(zora))["d"] == "expired"


async def test_revoking_twice_is_no_error_and_changes_nothing(zora: Zora) -> None:
    new, _ = await create(zora)
    first = await revoke(zora, new.prefix)
    await zora.advance(hours=1)
    assert await revoke(zora, new.prefix) == first
    assert [entry["event_type"] for entry in await journal(zora)] == ["api_key_revoked", "api_key_created"]


async def test_revoking_at_the_same_moment_is_journalled_once(zora: Zora) -> None:
    new, _ = await create(zora)
    connection = await asyncpg.connect(zora.url)
    try:
        async with connection.transaction():
            first = await connection.fetchrow("select * from revoke_api_key($1, $2)", zora.tenant_id, new.prefix)
            second = asyncio.create_task(revoke(zora, new.prefix))
            while not (second.done() or await zora.sql("select from pg_locks where not granted")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await connection.close()
    assert await asyncio.wait_for(second, 5) == dict(first)
    assert [entry["event_type"] for entry in await journal(zora)] == ["api_key_revoked", "api_key_created"]


async def test_a_key_that_is_not_there_is_named(zora: Zora) -> None:
    for missing in ("zora_abcd1234", str(uuid4()), "", "%"):
        with pytest.raises(NotFound, match=f"no API key '{missing}'"):
            await revoke(zora, missing)


async def test_another_tenant_cannot_see_or_revoke_a_key(zora: Zora) -> None:
    new, row = await create(zora)
    other = await another_tenant(zora)
    assert await zora.call("list_api_keys", tenant_id=other) == []
    for named in (new.prefix, str(row["id"])):
        with pytest.raises(NotFound):
            await revoke(zora, named, other)
    assert await works(zora, new)


async def test_a_key_cannot_stand_for_another_tenants_user(zora: Zora) -> None:
    (stranger,) = await zora.call("ensure_user", tenant_id=await another_tenant(zora), email="eve@example.org")
    with pytest.raises(NotFound):
        await create(zora, owner=stranger)
    assert await zora.sql("select from api_keys") == []


async def test_creation_and_revocation_are_journalled(zora: Zora) -> None:
    owner = await user(zora)
    new, row = await create(zora, "the CI's", owner=owner, expires_at=START + timedelta(days=7))
    await zora.advance(hours=1)
    await revoke(zora, new.prefix)
    revoked, created = await journal(zora)
    for entry, event_type, title in (
        (created, "api_key_created", "API key created: the CI's"),
        (revoked, "api_key_revoked", "API key revoked: the CI's"),
    ):
        assert (entry["category"], entry["event_type"], entry["title"]) == ("config_change", event_type, title)
        assert (entry["author"], entry["related_entity_ids"]) == ("operator", [row["id"], owner["id"]])
        details = {"api_key_id": str(row["id"]), "prefix": new.prefix, "user_id": str(owner["id"])}
        assert entry["details"].items() >= details.items()
    assert (created["created_at"], revoked["created_at"]) == (START, zora.now)
    assert created["details"]["expires_at"].startswith("2026-03-09T")


async def test_no_key_and_no_hash_is_in_the_journal(zora: Zora) -> None:
    new, _ = await create(zora)
    await revoke(zora, new.prefix)
    secret = new.key.removeprefix(new.prefix)
    (written,) = await zora.sql("select string_agg(j::text, ' ') as journal from journal_entries as j")
    assert new.prefix in written["journal"]
    for hidden in (secret, new.hash.hex(), base64.b64encode(new.hash).decode()):
        assert hidden not in written["journal"]


async def test_only_the_hash_of_a_key_is_stored(zora: Zora) -> None:
    new, _ = await create(zora)
    (row,) = await zora.sql("select k::text as stored, hash from api_keys as k")
    assert row["hash"] == new.hash
    assert new.key.removeprefix(new.prefix) not in row["stored"]


async def test_a_keys_name_is_kept_without_the_space_around_it(zora: Zora) -> None:
    _, row = await create(zora, f" {'x' * 200} ")
    assert (row["name"], list(await states(zora))) == ("x" * 200, ["x" * 200])


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, None])
async def test_a_key_needs_a_name(zora: Zora, name: Any) -> None:
    owner = await user(zora)
    with pytest.raises(InvalidInput, match="a name of 1 to 200 characters"):
        await create(zora, name, owner=owner)


async def test_a_user_is_made_once_whatever_the_case_of_the_address(zora: Zora) -> None:
    first = await user(zora, "Ada@Example.org")
    assert (first["email"], first["role"]) == ("ada@example.org", "member")
    assert await user(zora, "ada@example.ORG") == first
    assert await user(zora, "ada@example.org", "member") == first
    assert len(await zora.sql("select from users")) == 1


async def test_one_address_is_a_user_of_its_own_in_each_tenant(zora: Zora) -> None:
    (theirs,) = await zora.call(
        "ensure_user", tenant_id=await another_tenant(zora), email="ada@example.org", role="founder"
    )
    assert (await user(zora))["id"] != theirs["id"]
    assert (await user(zora))["role"] == "member"


async def test_a_role_that_contradicts_the_users_is_refused_and_nothing_changes(zora: Zora) -> None:
    await user(zora, role="viewer")
    with pytest.raises(InvalidState, match=r"ada@example\.org has the role viewer, not founder"):
        await user(zora, role="founder")
    assert (await user(zora))["role"] == "viewer"


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@example.org", "a da@example.org", "a@b@c", "ada@b\n", None])
async def test_what_is_no_address_makes_no_user(zora: Zora, email: Any) -> None:
    with pytest.raises(InvalidInput, match="is not an e-mail address"):
        await user(zora, email)
    assert await zora.sql("select from users") == []


async def test_an_unknown_role_is_refused_with_the_known_ones(zora: Zora) -> None:
    with pytest.raises(InvalidInput, match=r"unknown role 'admin' \(known: founder, brand_admin, member, viewer"):
        await user(zora, role="admin")
    assert await zora.sql("select from users") == []


async def test_a_founder_is_made_only_where_there_is_none(zora: Zora) -> None:
    answers = await asyncio.gather(*(zora.call("ensure_founder", tenant_id=zora.tenant_id) for _ in range(6)))
    assert {(row["email"], row["role"]) for (row,) in answers} == {("founder@localhost", "founder")}
    assert len(await zora.sql("select from users")) == 1


async def test_the_first_founder_is_the_tenants_founder(zora: Zora) -> None:
    await user(zora, "viewer@example.org", "viewer")
    await zora.advance(seconds=1)
    first = await user(zora, "zoe@example.org", "founder")
    await zora.advance(seconds=1)
    await user(zora, "ada@example.org", "founder")
    assert await zora.call("ensure_founder", tenant_id=zora.tenant_id) == [first]
    (other,) = await zora.call("ensure_founder", tenant_id=await another_tenant(zora))
    assert other["email"] == "founder@localhost"


async def test_the_apis_role_manages_the_keys_of_its_tenant_and_sees_no_others(zora: Zora) -> None:
    new, _ = await create(zora)
    other = await another_tenant(zora)
    api = await zora.database.restricted()
    try:
        (row,) = await api.call("working_api_keys", prefixes=[new.prefix])
        assert (row["hash"], row["tenant_id"]) == (new.hash, zora.tenant_id)
        (listed,) = await api.call("list_api_keys", tenant_id=zora.tenant_id)
        assert listed["prefix"] == new.prefix
        assert await api.call("list_api_keys", tenant_id=other) == []
        with pytest.raises(NotFound):
            await api.call("revoke_api_key", tenant_id=other, key=new.prefix)
        await api.call("revoke_api_key", tenant_id=zora.tenant_id, key=new.prefix)
        assert await api.call("working_api_keys", prefixes=[new.prefix]) == []
    finally:
        await api.close()
    connection = await asyncpg.connect(zora.url)
    try:
        await connection.execute("set role zora_api")
        await connection.execute("select set_config('zora.tenant_id', $1, false)", str(other))
        assert await connection.fetch("select from api_keys") == []
        assert await connection.execute("update api_keys set revoked_at = null") == "UPDATE 0"
        for statement in ("delete from api_keys", "update api_keys set user_id = null", "update users set email = ''"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_link_begins_one_session_and_no_more(zora: Zora) -> None:
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="ada@example.org", role="brand_admin")
    link = new_key()
    await zora.call(
        "create_sign_in_link",
        tenant_id=zora.tenant_id, user_id=user["id"], prefix=link.prefix, hash=link.hash, seconds=600,
    )  # fmt: skip
    assert await working(zora, link) == [], "a link opens nothing but a session"
    (row,) = await zora.call("working_api_keys", prefixes=[link.prefix], links=True)
    assert (row["kind"], row["email"], row["role"]) == ("link", "ada@example.org", "brand_admin")
    sessions = [new_key() for _ in range(4)]
    answers = await asyncio.gather(*(start(zora, link, session) for session in sessions), return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, InvalidState)]) == 3
    (row,) = await working(zora, *sessions)
    assert (row["kind"], row["user_id"]) == ("session", user["id"])
    events = [r["event_type"] for r in await zora.call("list_journal_entries", tenant_id=zora.tenant_id)]
    assert sorted(events[:2]) == ["sign_in_link_created", "user_signed_in"]


async def test_a_link_that_nobody_used_in_time_begins_nothing(zora: Zora) -> None:
    (user,) = await zora.call("ensure_founder", tenant_id=zora.tenant_id)
    link = new_key()
    arguments = {"tenant_id": zora.tenant_id, "user_id": user["id"], "prefix": link.prefix, "hash": link.hash}
    for seconds in (59, 604_801):
        with pytest.raises(InvalidInput, match="a minute to a week"):
            await zora.call("create_sign_in_link", **arguments, seconds=seconds)
    await zora.call("create_sign_in_link", **arguments, seconds=60)
    await zora.advance(seconds=60)
    assert await zora.call("working_api_keys", prefixes=[link.prefix], links=True) == []
    with pytest.raises(InvalidState):
        await start(zora, link, new_key())


async def test_a_session_ends_with_the_key_it_began_with(zora: Zora) -> None:
    key, _ = await create(zora)
    session, second = new_key(), new_key()
    await start(zora, key, session)
    await start(zora, key, second)
    assert len(await working(zora, session, second)) == 2
    with pytest.raises(InvalidState):
        await start(zora, session, new_key())
    await revoke(zora, session.prefix)
    assert [row["prefix"] for row in await working(zora, session, second)] == [second.prefix]
    await revoke(zora, key.prefix)
    assert await working(zora, session, second) == []
    listed = await zora.call("list_api_keys", tenant_id=zora.tenant_id, kind="session")
    assert {row["state"] for row in listed} == {"revoked"}


async def test_sessions_end_after_their_time(zora: Zora) -> None:
    key, _ = await create(zora)
    session = new_key()
    await start(zora, key, session, seconds=600)
    assert len(await working(zora, session)) == 1
    await zora.advance(seconds=600)
    assert await working(zora, session) == []


async def test_roles_change_and_one_founder_stays(zora: Zora) -> None:
    (founder,) = await zora.call("ensure_founder", tenant_id=zora.tenant_id)
    (ada,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="ada@example.org")

    async def become(user: dict[str, Any], role: str) -> str:
        (row,) = await zora.call(
            "set_user_role", tenant_id=zora.tenant_id, id=user["id"], role=role, user_id=founder["id"]
        )
        return str(row["role"])

    with pytest.raises(InvalidState, match="the only founder"):
        await become(founder, "viewer")
    with pytest.raises(InvalidInput, match="unknown role 'king'"):
        await become(ada, "king")
    assert await become(ada, "founder") == "founder"
    answers = await asyncio.gather(become(founder, "member"), become(ada, "member"), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["InvalidState", "str"], "both at once left nobody"
    entries = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, category="config_change")
    assert [e["details"]["after"] for e in entries if e["event_type"] == "user_role_changed"] == ["member", "founder"]
    assert entries[-1]["author"] == founder["email"]


async def start(zora: Zora, made_with: NewKey, session: NewKey, seconds: int = 3600) -> list[dict[str, Any]]:
    return await zora.call(
        "start_session",
        tenant_id=zora.tenant_id, made_with=made_with.prefix, prefix=session.prefix, hash=session.hash, seconds=seconds,
    )  # fmt: skip


async def test_the_apis_role_can_tell_whether_a_tenant_exists(zora: Zora) -> None:
    api = await zora.database.restricted()
    try:
        assert await api.value("has_tenant", tenant_id=zora.tenant_id) is True
        assert await api.value("has_tenant", tenant_id=uuid4()) is False
    finally:
        await api.close()
