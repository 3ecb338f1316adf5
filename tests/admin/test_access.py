"""The access page: users and roles, links and keys that are shown once, sessions; of the founder's tenant alone."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.admin.conftest import ORIGIN, Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID, Log, log  # noqa: F401  (a fixture)
from tests.conftest import Zora
from zora_core.api.access import TRUSTED_SECONDS
from zora_core.models import Role

HOSTILE = "<script>alert(1)</script>"
ACCESS = "/admin/access"


async def user(zora: Zora, email: str, role: str = "member", tenant_id: UUID | None = None) -> UUID:
    (row,) = await zora.call("ensure_user", tenant_id=tenant_id or zora.tenant_id, email=email, role=role)
    return row["id"]


async def users(zora: Zora) -> dict[str, str]:
    return {row["email"]: row["role"] for row in await zora.call("list_users", tenant_id=zora.tenant_id)}


async def credentials(zora: Zora, kind: str = "key", tenant_id: UUID | None = None) -> list[dict[str, Any]]:
    return await zora.call("list_api_keys", tenant_id=tenant_id or zora.tenant_id, kind=kind)


async def journal(zora: Zora, event_type: str) -> list[dict[str, Any]]:
    entries = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, limit=100)
    return [entry for entry in entries if entry["event_type"] == event_type]


def secret(visitor: Visitor) -> str:
    return str(visitor.page.css_first("pre.secret").text().strip())


async def nowhere(zora: Zora, visitor: Visitor, key: str) -> None:
    """The key is in no header, no cookie, no page that can be come back to, and nowhere in the database."""
    random = key.partition("_")[2].partition("_")[2]
    assert visitor.answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in visitor.answer.headers
    assert not visitor.answer.history
    assert random not in str(visitor.answer.headers)
    assert random not in str(visitor.answer.url)
    assert visitor.answer.text.count(random) == 1
    for path in (ACCESS, f"{ACCESS}/links", f"{ACCESS}/keys", "/admin/journal"):
        await visitor.open(path)
        assert random not in visitor.answer.text
    for table in ("api_keys", "journal_entries"):
        (found,) = await zora.sql(f"select count(*) as n from {table} as t where t::text like $1", f"%{random}%")
        assert found["n"] == 0


# --- users ------------------------------------------------------------------------------------------------------------


async def test_a_user_is_added_and_the_journal_names_who_did_it(zora: Zora, founder: Visitor) -> None:
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/users", email=" Ada@Example.org ", role="brand_admin")
    assert founder.notice.startswith("ada@example.org is a user now.")
    assert await users(zora) == {"founder@example.org": "founder", "ada@example.org": "brand_admin"}
    (entry,) = await journal(zora, "user_added")
    assert (entry["title"], entry["author"]) == ("ada@example.org is a user now, as brand_admin", "founder@example.org")


@pytest.mark.parametrize(
    ("email", "said"),
    [
        ("", "is not an e-mail address"),
        ("ada", "is not an e-mail address"),
        (f"{HOSTILE}", "is not an e-mail address"),
        (f"{'a' * 250}@b.cd", "at most 254 characters"),
        ("FOUNDER@example.org", "is a user already, with the role founder"),
    ],
)
async def test_an_address_that_cannot_be_is_shown_again(zora: Zora, founder: Visitor, email: str, said: str) -> None:
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/users", email=email, role="viewer", status=400)
    assert said in founder.page.css_first("#email-error").text()
    assert founder.page.css_first("#email").attributes["value"] == email
    assert founder.page.css_first("#new-role option[selected]").attributes["value"] == "viewer"
    assert HOSTILE not in founder.answer.text
    assert await users(zora) == {"founder@example.org": "founder"}
    assert await journal(zora, "user_added") == []


async def test_a_role_is_changed_and_the_last_founder_stays_one(zora: Zora, founder: Visitor) -> None:
    ada = await user(zora, "ada@example.org")
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/users/{ada}/role", role="brand_admin")
    assert founder.notice == "ada@example.org has the role brand admin."
    assert (await users(zora))["ada@example.org"] == "brand_admin"
    (entry,) = await journal(zora, "user_role_changed")
    assert entry["author"] == "founder@example.org"

    own = await user(zora, "founder@example.org", "founder")
    await founder.post(f"{ACCESS}/users/{own}/role", role="viewer")
    assert "is the only founder" in founder.notice
    await founder.post(f"{ACCESS}/users/{ada}/role", role="emperor")
    assert "Unknown role" in founder.notice


async def test_whoever_gives_up_being_founder_is_led_to_what_they_still_may_see(zora: Zora, founder: Visitor) -> None:
    await user(zora, "ada@example.org", "founder")
    own = await user(zora, "founder@example.org", "founder")
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/users/{own}/role", role="viewer")
    assert founder.here.startswith("/admin/agents/tasks")
    await founder.open(ACCESS, status=403)


# --- links ------------------------------------------------------------------------------------------------------------


async def test_a_link_is_shown_once_and_signs_its_user_in(zora: Zora, visitors: Visitors, founder: Visitor) -> None:
    ada = await user(zora, "ada@example.org")
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/links", user_id=ada, minutes="1440")
    assert "A sign-in link for ada@example.org" in founder.text
    link = secret(founder)
    assert re.fullmatch(rf"{ORIGIN}/admin/sign-in\?link=zora_[a-z0-9]{{8}}_[\w-]{{43}}", link)
    await nowhere(zora, founder, link.partition("link=")[2])
    (entry,) = await journal(zora, "sign_in_link_created")
    assert entry["author"] == "founder@example.org"

    await founder.open(ACCESS)
    assert "ada@example.org" in founder.texts("#links li")[0]
    visitor = visitors.anybody()
    page = await visitor.open(link)
    given = page.css_first("input[name=link]").attributes["value"]
    answer = await visitor.client.post("/admin/sign-in", data={"link": given}, headers={"Origin": ORIGIN})
    assert answer.status_code == 303
    await visitor.open("/admin/agents/tasks")
    assert visitor.page.css_first(".mail").text() == "ada@example.org"
    await founder.open(ACCESS)
    assert founder.page.css_first("#links") is None


async def test_a_links_scheme_is_that_of_the_visitors_page(zora: Zora, founder: Visitor) -> None:
    ada = await user(zora, "ada@example.org")
    await founder.open(ACCESS)
    data = {"csrf": founder.csrf, "user_id": str(ada), "minutes": "60"}
    answer = await founder.client.post(f"{ACCESS}/links", data=data, headers={"Origin": "https://zora"})
    assert "https://zora/admin/sign-in?link=zora_" in answer.text


async def test_a_link_that_was_not_used_can_be_revoked(zora: Zora, visitors: Visitors, founder: Visitor) -> None:
    ada = await user(zora, "ada@example.org")
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/links", user_id=ada, minutes="60")
    link = secret(founder)
    (kept,) = await credentials(zora, "link")
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/credentials/{kept['id']}/revoke")
    assert founder.page.css_first("#links") is None
    data = {"link": link.partition("link=")[2]}
    answer = await visitors.anybody().client.post("/admin/sign-in", data=data, headers={"Origin": ORIGIN})
    assert answer.status_code == 401


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_works(zora: Zora, visitors: Visitors, founder: Visitor) -> None:
    ada = await user(zora, "ada@example.org", "brand_admin")
    await founder.open(ACCESS)
    await founder.post(f"{ACCESS}/keys", name=f" {HOSTILE} ", user_id=ada, agent_id="SAM", expires_days="30")
    assert HOSTILE in founder.text
    assert HOSTILE not in founder.answer.text
    key = secret(founder)
    assert "Held by" in founder.text
    await nowhere(zora, founder, key)
    (stored,) = [row for row in await credentials(zora) if row["name"] == HOSTILE]
    assert (stored["email"], stored["agent_id"], stored["state"]) == ("ada@example.org", "SAM", "works")
    assert stored["prefix"] == key[:13]
    assert stored["expires_at"] is not None
    (entry,) = [entry for entry in await journal(zora, "api_key_created") if entry["details"]["agent_id"] == "SAM"]
    assert entry["author"] == "founder@example.org"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=visitors.app), base_url=ORIGIN) as client:
        headers = {"Authorization": f"Bearer {key}"}
        assert (await client.get("/api/agents/tasks", headers=headers)).status_code == 200

        await founder.open(ACCESS)
        await founder.post(f"{ACCESS}/credentials/{stored['id']}/revoke")
        assert founder.notice == f"{HOSTILE} ({stored['prefix']}) was revoked."
        (entry,) = await journal(zora, "api_key_revoked")
        assert entry["author"] == "founder@example.org"
        (row,) = [text for text in founder.texts("#keys-list details tbody tr") if HOSTILE in text]
        assert "revoked" in row
        assert "Revoke" not in row
    (stored,) = [row for row in await credentials(zora) if row["name"] == HOSTILE]
    assert stored["state"] == "revoked"


async def test_nothing_of_a_secret_is_logged(zora: Zora, founder: Visitor, log: Log) -> None:  # noqa: F811
    log.set_up()
    ada = await user(zora, "ada@example.org")
    await founder.open(ACCESS)
    found = []
    for path, fields in ((f"{ACCESS}/links", {"minutes": "60"}), (f"{ACCESS}/keys", {"name": "n"})):
        await founder.open(ACCESS)
        await founder.post(path, user_id=ada, **fields)
        found.append(secret(founder)[-43:])
    assert f"POST {ACCESS}/keys 200" in log.getvalue()
    assert not [random for random in found if random in log.getvalue()]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"name": "a\tb"}, "name"),
        ({"user_id": "me"}, "user_id"),
        ({"agent_id": "BOB"}, "agent_id"),
        ({"expires_days": "0"}, "expires_days"),
        ({"expires_days": "36501"}, "expires_days"),
        ({"expires_days": "soon"}, "expires_days"),
    ],
)
async def test_what_is_wrong_with_a_key_is_said_at_its_field(
    zora: Zora, founder: Visitor, given: dict[str, str], field: str
) -> None:
    ada = await user(zora, "ada@example.org")
    await founder.open(ACCESS)
    fields = {"name": HOSTILE, "user_id": str(ada), "agent_id": "", "expires_days": "", **given}
    await founder.post(f"{ACCESS}/keys", **fields, status=400)
    assert [node.attributes["id"] for node in founder.page.css("#keys-list .field-error")] == [f"{field}-error"]
    assert founder.page.css_first("#name").attributes["value"] == fields["name"]
    assert HOSTILE not in founder.answer.text
    assert [row["name"] for row in await credentials(zora)] == ["test"]


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_sessions_are_listed_and_ended(zora: Zora, visitors: Visitors, founder: Visitor) -> None:
    viewer = await visitors(Role.VIEWER)
    await founder.open(ACCESS)
    rows = founder.texts("#sessions tbody tr")
    assert len(rows) == 2
    (own,) = [row for row in rows if "this one" in row]
    assert own.startswith("founder@example.org")
    (theirs,) = [row for row in await credentials(zora, "session") if row["email"] == "viewer@example.org"]
    await founder.post(f"{ACCESS}/credentials/{theirs['id']}/revoke")
    assert "ended" in founder.texts("#sessions details tbody tr")[0]
    await asyncio.sleep(TRUSTED_SECONDS)  # for so long, what was good is not looked at again
    await viewer.open("/admin/agents/tasks")
    assert viewer.here.startswith("/admin/sign-in")


async def test_ending_ones_own_session_signs_out(zora: Zora, founder: Visitor) -> None:
    await founder.open(ACCESS)
    (own,) = await credentials(zora, "session")
    await founder.post(f"{ACCESS}/credentials/{own['id']}/revoke")
    assert founder.here.startswith("/admin/sign-in")


# --- who may ----------------------------------------------------------------------------------------------------------


def actions(some: UUID) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{ACCESS}/users", {"email": "eve@example.org", "role": "founder"}),
        (f"{ACCESS}/users/{some}/role", {"role": "founder"}),
        (f"{ACCESS}/links", {"user_id": some, "minutes": "60"}),
        (f"{ACCESS}/keys", {"name": "n", "user_id": some}),
        (f"{ACCESS}/credentials/{some}/revoke", {}),
    ]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER, Role.BRAND_ADMIN])
async def test_whoever_is_no_founder_sees_nothing_and_does_nothing(zora: Zora, visitors: Visitors, role: Role) -> None:
    visitor = await visitors(role)
    ada = await user(zora, "ada@example.org", "viewer")
    before = (await users(zora), await credentials(zora), await credentials(zora, "link"))
    assert "Access" not in [node.text().strip() for node in visitor.page.css(".side nav a")]
    token = visitor.csrf
    await visitor.open(ACCESS, status=403)
    for path, fields in actions(ada):
        await visitor.post(path, token=token, **fields, status=403)
    assert (await users(zora), await credentials(zora), await credentials(zora, "link")) == before


async def test_an_agent_with_a_founders_key_makes_no_key_for_itself(zora: Zora, visitors: Visitors) -> None:
    agent = await visitors(Role.FOUNDER, agent_id="SAM")
    ada = await user(zora, "ada@example.org", "viewer")
    before = (await users(zora), await credentials(zora), await credentials(zora, "link"))
    await agent.open(ACCESS)
    assert agent.texts("main form") == []
    token = agent.csrf
    for path, fields in actions(ada):
        await agent.post(path, token=token, **fields, status=403)
    assert (await users(zora), await credentials(zora), await credentials(zora, "link")) == before


async def test_another_tenants_users_and_credentials_are_out_of_reach(zora: Zora, visitors: Visitors) -> None:
    ours = await user(zora, "ada@example.org", "founder")
    await visitors(Role.MEMBER)
    (key,) = await credentials(zora)
    stranger = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await stranger.open(ACCESS)
    assert "ada@example.org" not in stranger.text
    assert key["prefix"] not in stranger.text
    assert stranger.texts("#users li b") == ["founder@example.org you"]
    for path, fields, said in (
        (f"{ACCESS}/users/{ours}/role", {"role": "viewer"}, "No user"),
        (f"{ACCESS}/links", {"user_id": ours, "minutes": "60"}, "User not found"),
        (f"{ACCESS}/keys", {"name": "n", "user_id": ours}, "User not found"),
        (f"{ACCESS}/credentials/{key['id']}/revoke", {}, "No API key"),
        (f"{ACCESS}/users/{uuid4()}/role", {"role": "viewer"}, "No user"),
    ):
        await stranger.open(ACCESS)
        await stranger.post(path, **fields)
        assert said in stranger.notice
    assert (await users(zora))["ada@example.org"] == "founder"
    assert [row["state"] for row in await credentials(zora)] == ["works"]
    assert await credentials(zora, "link", OTHER_TENANT_ID) == []


async def test_a_link_is_made_for_the_times_that_are_offered(zora: Zora, founder: Visitor) -> None:
    ada = await user(zora, "ada@example.org")
    for minutes in ("", "0", "999999", "-60", HOSTILE):
        await founder.open(ACCESS)
        await founder.post(f"{ACCESS}/links", user_id=ada, minutes=minutes)
        assert "A link works for 60, 1440, 10080 minutes" in founder.notice
    assert await credentials(zora, "link") == []
