"""Signing in and out, and what keeps others from acting in a visitor's name."""

from __future__ import annotations

import base64
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.admin.conftest import ORIGIN, Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID, Callers
from tests.conftest import Zora
from zora_core.admin.app import ROUTES
from zora_core.api.keys import new_key
from zora_core.api.state import Api
from zora_core.models import Role
from zora_core.server.app import create_app
from zora_core.server.serve import sign_in_link

HOME = "/admin/agents/tasks"


async def link_for(zora: Zora, email: str, role: str, seconds: int = 600) -> str:
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email=email, role=role)
    return await sign_in_link(zora.database, zora.tenant_id, user["id"], ORIGIN, seconds)


async def test_a_link_signs_in_once_and_is_not_used_up_by_being_looked_at(zora: Zora, visitors: Visitors) -> None:
    link = await link_for(zora, "ada@example.org", "member")
    ada, late = visitors.anybody(), visitors.anybody()
    for _ in range(2):  # as a chat program does that shows what is behind a link
        await visitors.anybody().open(link)
    page = await ada.open(link)
    given = page.css_first("input[name=link]").attributes["value"]
    answer = await ada.client.post("/admin/sign-in", data={"link": given}, headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.headers["location"]) == (303, HOME)
    await ada.open(HOME)
    assert ada.page.css_first(".mail").text() == "ada@example.org"
    again = await late.client.post("/admin/sign-in", data={"link": given}, headers={"Origin": ORIGIN})
    assert again.status_code == 401
    assert "can be used once" in again.text
    assert not again.headers.get("set-cookie")


async def test_an_api_key_signs_in_and_so_does_a_link_in_its_field(zora: Zora, visitors: Visitors, api: Api) -> None:
    visitor = await visitors(Role.VIEWER)
    assert visitor.page.css_first(".mail").text() == "viewer@example.org"
    link = await link_for(zora, "ada@example.org", "member")
    other = visitors.anybody()
    answer = await other.client.post("/admin/sign-in", data={"key": link}, headers={"Origin": ORIGIN})
    assert answer.status_code == 303


async def test_what_is_no_credential_signs_nobody_in(zora: Zora, visitors: Visitors) -> None:
    for given in ("", "x", new_key().key, "zora_aaaaaaaa_", "link=", "é" * 100):
        visitor = visitors.anybody()
        answer = await visitor.client.post("/admin/sign-in", data={"key": given}, headers={"Origin": ORIGIN})
        assert answer.status_code == 401, given
        assert len(given) < 6 or given not in answer.text
        assert "set-cookie" not in answer.headers


async def test_the_cookie_is_kept_from_scripts_from_other_sites_and_from_the_open(
    callers: Callers, visitors: Visitors
) -> None:
    key = await callers.key(Role.VIEWER)
    client = visitors.anybody().client

    async def cookie(origin: str) -> str:
        headers = {"Origin": origin, "Host": origin.partition("//")[2]}
        answer = await client.post("/admin/sign-in", data={"key": key}, headers=headers)
        assert answer.status_code == 303
        assert key not in answer.headers["set-cookie"]
        return str(answer.headers["set-cookie"])

    plain = await cookie("http://zora")
    assert re.fullmatch(r"zora_session=\S+; HttpOnly; Max-Age=604800; Path=/admin; SameSite=lax", plain)
    assert (await cookie("https://zora.example")).endswith("; Secure"), "a proxy encrypts in front of us"


async def test_visitors_come_back_to_where_they_were_going_and_nowhere_else(
    callers: Callers, visitors: Visitors
) -> None:
    visitor = visitors.anybody()
    await visitor.open("/admin/agents/tasks?view=failed&q=x")
    assert visitor.page.css_first("input[name=next]").attributes["value"] == "/admin/agents/tasks?view=failed&q=x"
    key = await callers.key(Role.VIEWER)
    for given, taken in (
        ("/admin/agents/tasks?view=failed", "/admin/agents/tasks?view=failed"),
        ("//evil.example/admin/", HOME),
        ("https://evil.example/admin/", HOME),
        ("/admin/\\evil.example", HOME),
        ("/api/status", HOME),
        ("/admin/\r\nSet-Cookie: a=b", HOME),
        ("", HOME),
    ):
        answer = await visitor.client.post(
            "/admin/sign-in", data={"key": key, "next": given}, headers={"Origin": ORIGIN}
        )
        assert answer.headers["location"] == taken


async def test_signing_out_ends_the_session_for_whoever_has_its_cookie(visitors: Visitors) -> None:
    visitor = await visitors(Role.VIEWER)
    stolen = dict(visitor.client.cookies)
    await visitor.post("/admin/sign-out")
    assert visitor.page.css_first("input[name=key]") is not None
    assert "zora_session" not in visitor.client.cookies
    thief = visitors.anybody()
    thief.client.cookies.update(stolen)
    await thief.open(HOME)
    assert "Sign in" in thief.text


async def test_a_revoked_key_ends_the_sessions_that_began_with_it(zora: Zora, visitors: Visitors, api: Api) -> None:
    visitor = await visitors(Role.VIEWER)
    await zora.sql("update api_keys set revoked_at = zora_now() where kind = 'key'")
    api.credentials._good.clear()  # half a second has passed
    await visitor.open(HOME)
    assert "Sign in" in visitor.text


# --- every route ---


def routes() -> list[tuple[str, str, Any]]:
    """Method, path with made-up ids, and the handler of every page behind a sign-in."""
    found = []
    for route in ROUTES:
        serve = getattr(route, "endpoint", None)
        if getattr(serve, "role", None) is not None:
            path = re.sub(r"\{[^}]*\}", str(uuid4()), route.path)
            found.append((next(iter(route.methods - {"HEAD"})), f"/admin{path}", serve))
    assert len(found) > 10
    return found


async def test_every_page_asks_to_sign_in(api: Api, visitors: Visitors) -> None:
    client = visitors.anybody().client
    for method, path, _ in routes():
        answer = await client.request(method, path, data={} if method == "POST" else None, headers={"Origin": ORIGIN})
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/admin/sign-in"), path


async def test_every_page_refuses_who_may_not(api: Api, visitors: Visitors) -> None:
    known = {role: await visitors(role) for role in Role}
    agent = await visitors(Role.FOUNDER, agent_id="SAM")
    for method, path, serve in routes():
        lower = [role for role in Role if role.rank < serve.role.rank]
        for visitor in [known[role] for role in lower] + ([agent] if serve.person else []):
            data = {"csrf": visitor.csrf} if method == "POST" else None
            answer = await visitor.client.request(method, path, data=data, headers={"Origin": ORIGIN})
            assert answer.status_code == 403, (method, path)


async def test_every_action_refuses_what_our_own_page_did_not_send(api: Api, visitors: Visitors) -> None:
    victim, other = await visitors(Role.FOUNDER), await visitors(Role.FOUNDER)
    for method, path, _ in routes():
        if method != "POST":
            continue
        attempts: list[tuple[dict[str, str], dict[str, str]]] = [
            ({"x": ""}, {"Origin": ORIGIN}),
            ({"csrf": ""}, {"Origin": ORIGIN}),
            ({"csrf": other.csrf}, {"Origin": ORIGIN}),
            ({"csrf": victim.csrf + "0"}, {"Origin": ORIGIN}),
            ({"csrf": victim.csrf}, {}),
            ({"csrf": victim.csrf}, {"Origin": "null"}),
            ({"csrf": victim.csrf}, {"Origin": "http://evil.example"}),
            ({"csrf": victim.csrf}, {"Origin": "http://zora.evil.example"}),
        ]
        for data, headers in attempts:
            answer = await victim.client.post(path, data=data, headers=headers)
            assert answer.status_code == 403, (path, data, headers)


async def test_no_page_can_be_framed_run_a_foreign_script_or_be_kept(api: Api, founder: Visitor) -> None:
    for method, path, _ in routes():
        if method != "GET":
            continue
        answer = await founder.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy, path
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


async def test_only_forms_of_a_bounded_size_are_read(founder: Visitor) -> None:
    path, headers = "/admin/agents/tasks/selected", {"Origin": ORIGIN}
    token = founder.csrf
    answer = await founder.client.post(path, json={"csrf": token}, headers=headers)
    assert answer.status_code == 415
    answer = await founder.client.post(path, data={"csrf": token, "x": "a" * 1_000_001}, headers=headers)
    assert answer.status_code == 413
    answer = await founder.client.post(
        path, data={"csrf": token, **{f"f{i}": "" for i in range(3000)}}, headers=headers
    )
    assert answer.status_code == 400
    raw = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    answer = await founder.client.post(path, content=b"a=%ff", headers=raw)
    assert answer.status_code == 400


async def test_tenants_do_not_see_one_another(zora: Zora, visitors: Visitors) -> None:
    task_id = await zora.create("EIVOR", "summarize_recent_events", title="Ours alone")
    stranger = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    assert "Ours alone" not in stranger.text
    await stranger.open(f"/admin/agents/tasks/{task_id}", status=404)
    await stranger.open("/admin/agents/tasks?view=all")
    await stranger.post("/admin/agents/tasks/selected", id=str(task_id), action="cancel")
    assert "0 of 1 task" in stranger.notice
    assert (await zora.task(task_id)).status == "pending"


async def test_requests_are_counted_by_session_and_failed_sign_ins_by_address(zora: Zora, api: Api) -> None:
    from dataclasses import replace

    from zora_core.api.limits import RateLimiter

    slow = replace(api, limiter=RateLimiter(60, burst=3))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(slow)), base_url=ORIGIN) as client:
        codes = [
            (await client.post("/admin/sign-in", data={"key": "x"}, headers={"Origin": ORIGIN})).status_code
            for _ in range(5)
        ]
    assert codes == [401, 401, 401, 429, 429]


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/"])
async def test_the_short_addresses_lead_to_what_needs_a_decision(founder: Visitor, path: str) -> None:
    await founder.open(path)
    assert founder.here == HOME


async def test_an_error_that_nobody_expected_is_a_page_without_its_text(
    founder: Visitor, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(function: str, /, **arguments: Any) -> Any:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(api.database, "value", broken)
    await founder.open(HOME, status=500)
    assert "Something went wrong" in founder.text
    assert "secret" not in founder.answer.text
    assert founder.answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "value",
    ["", "x", "null", "1", "[]", '["a", "done", 1, null]', '["a", "done", [1], null]', '["a", "done", [], "../x"]',
     '["a", "done", [], 1]', '["a", "odd", [], null]', '[1, "done", [], null]', "[" * 5000],
)  # fmt: skip
async def test_a_notice_that_is_none_of_ours_is_passed_over(founder: Visitor, value: str) -> None:
    for cookie in (base64.urlsafe_b64encode(value.encode()).decode(), value[:20].strip('"[]{} ,')):
        founder.client.cookies.set("zora_notice", cookie, domain="zora.local", path="/admin")
        await founder.open(HOME)
        assert founder.page.css_first(".notice") is None


@pytest.mark.parametrize(
    "origin", ["http://[::1", "http://[", "http://]", "//[", "http://", "null", "http://a:b", "[::1"]
)
@pytest.mark.parametrize("host", ["zora", "[::1", "["])
async def test_an_origin_or_host_that_is_not_an_address_is_no_fault_of_the_server(
    visitors: Visitors, origin: str, host: str
) -> None:
    client = visitors.anybody().client
    headers = {"Origin": origin, "Host": host}
    answer = await client.post("/admin/sign-in", data={"key": "x"}, headers=headers)
    assert answer.status_code == (401 if origin == f"http://{host}" else 403), answer.text
    assert (await client.get("/admin/agents/tasks", headers=headers)).status_code in (303, 400)
