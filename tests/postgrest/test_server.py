"""The stand-in answers as the documentation says; the pages are named in the package's docstring."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import jwt
import pytest

from tests.postgrest import Config, prepare, serving, token
from tests.postgrest.conftest import SECRET, Project
from tests.postgrest.errors import status_of

TENANT = "00000000-0000-0000-0000-000000000001"


def error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error, which must have the documented shape."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert sorted(body) == ["code", "details", "hint", "message"]
    assert body["code"] == code
    assert response.headers["proxy-status"] == f"PostgREST; error={code}"
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    return body


# Calls: api/functions


async def test_a_post_names_its_arguments_in_an_object(project: Project) -> None:
    response = await project.post("add_them", {"a": 1, "b": 2})
    assert (response.status_code, response.text) == (200, "3")
    assert response.headers["content-type"] == "application/json; charset=utf-8"


async def test_arguments_with_a_default_may_be_left_out(project: Project) -> None:
    assert (await project.post("greet")).json() == "Hello guest"
    assert (await project.post("greet", {"username": "you"})).json() == "Hello you"
    assert (await project.get("greet")).json() == "Hello guest"


async def test_null_is_an_argument_and_not_the_default(project: Project) -> None:
    assert (await project.post("greet", {"username": None})).text == "null"


async def test_names_are_as_postgresql_has_them(project: Project) -> None:
    assert (await project.post("sayTo", {"Who": "x"})).json() == "x"
    error(await project.post("sayto", {"Who": "x"}), 404, "PGRST202")
    error(await project.post("sayTo", {"who": "x"}), 404, "PGRST202")


@pytest.mark.parametrize("arguments", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {}])
async def test_missing_and_unknown_arguments_are_an_unknown_function(project: Project, arguments: Any) -> None:
    body = error(await project.post("add_them", arguments), 404, "PGRST202")
    assert body["message"].startswith("Could not find the function public.add_them")


async def test_a_get_takes_arguments_from_the_query(project: Project) -> None:
    assert (await project.get("add_them", {"a": "1", "b": "2"})).text == "3"
    assert (await project.get("how_many", [("p_values", "x"), ("p_values", "y")])).text == "2"
    assert (await project.post("how_many", {"p_values": ["x", "y", "z"]})).text == "3"
    assert (await project.get("nulls_in", {"p_jsons": "{1,NULL}"})).text == "1"
    error(await project.get("add_them", [("a", "1"), ("a", "2"), ("b", "3")]), 400, "PGRST100")


async def test_procedures_and_hidden_schemas_are_not_there(project: Project) -> None:
    error(await project.post("a_procedure"), 404, "PGRST202")
    error(await project.post("hidden"), 404, "PGRST202")
    error(await project.post("private.hidden"), 404, "PGRST202")


async def test_a_single_unnamed_parameter_takes_the_whole_body(project: Project) -> None:
    assert (await project.post("whole", {"x": 1})).json() == "object"
    assert (await project.post("whole", [1, 2])).json() == "array"

    async def raw(function: str, body: bytes, kind: str) -> httpx.Response:
        return await project.client.post(
            f"/rest/v1/rpc/{function}", content=body, headers={**project.headers(), "content-type": kind}
        )

    assert (await raw("whole_bytes", b"\x00\xff\x80", "application/octet-stream")).text == "3"
    assert (await raw("whole_text", "für".encode(), "text/plain")).json() == "FÜR"
    error(await raw("whole_bytes", b"x", "text/plain"), 404, "PGRST202")
    error(await raw("whole_text", b"\xff", "text/plain"), 400, "PGRST102")


async def test_the_unnamed_parameter_is_what_is_left_when_no_other_function_fits(project: Project) -> None:
    assert (await project.post("fallback", {"a": 1})).json() == "named"
    assert (await project.post("fallback", {"b": 1})).json() == "whole"


async def test_overloads_are_told_apart_by_names_alone(project: Project) -> None:
    assert (await project.post("overloaded", {"a": 1})).json() == "one"
    assert (await project.post("overloaded", {"a": 1, "b": 1})).json() == "two"
    body = error(await project.post("ambiguous", {"a": 1}), 300, "PGRST203")
    assert "public.ambiguous(a => integer), public.ambiguous(a => text)" in body["message"]
    error(await project.post("with_default", {"a": 1}), 300, "PGRST203")
    assert (await project.post("with_default", {"a": 1, "b": 1})).json() == "two"


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"{", b"sdf", b'{"a": NaN, "b": 1}', b'{"a": 1, "a": 2, "b": 1}', b"\xff"]
)
async def test_a_body_that_is_no_object_of_json_is_refused(project: Project, body: bytes) -> None:
    response = await project.client.post(
        "/rest/v1/rpc/add_them", content=body, headers={**project.headers(), "content-type": "application/json"}
    )
    error(response, 400, "PGRST102")


async def test_a_body_needs_a_content_type_that_is_known(project: Project) -> None:
    for kind, code in ((None, "PGRST102"), ("audio/mpeg", "PGRST102"), ("text/csv", "PGRST127")):
        headers = {**project.headers(), **({"content-type": kind} if kind else {})}
        error(await project.client.post("/rest/v1/rpc/nothing", content=b"{}", headers=headers), 400, code)


async def test_an_array_is_no_set_of_arguments(project: Project) -> None:
    error(await project.post("add_them", [1, 2]), 404, "PGRST202")


# Types: how-tos/working-with-postgresql-data-types


async def test_values_come_and_go_as_postgresql_writes_them(project: Project) -> None:
    ids = [str(uuid4()), str(uuid4())]
    arguments = {
        "p_bigint": 9223372036854775807,
        "p_numeric": 1.10,
        "p_double": 0.1,
        "p_boolean": True,
        "p_time": "2026-03-02T09:00:00.123456+01:00",
        "p_uuid": ids[0],
        "p_uuids": ids,
        "p_bytes": "\\x00ff",
        "p_json": {"a": [1, None, "ü"]},
        "p_jsons": [{"a": 1}, [2], "three", None],
        "p_texts": ["a,b", 'c"d', None],
        "p_colour": "green",
        "p_point": {"x": 1, "y": 2.5},
    }
    response = await project.post("echo_types", arguments)
    (row,) = response.json()
    assert row == {
        **arguments,
        "p_time": "2026-03-02T08:00:00.123456+00:00",
        "p_missing": "default",
    }
    # A number of any size stands there with all its digits, which not every client's JSON keeps.
    assert '"p_bigint":9223372036854775807' in response.text
    (nulls,) = (await project.post("echo_types", {**dict.fromkeys(arguments), "p_missing": None})).json()
    assert set(nulls.values()) == {None}


async def test_the_digits_of_a_number_stay(project: Project) -> None:
    response = await project.client.post(
        "/rest/v1/rpc/same_number",
        content=b'{"p_number": 12345678901234567890.10}',
        headers={**project.headers(), "content-type": "application/json"},
    )
    assert response.text == "12345678901234567890.10"


async def test_a_float_that_json_has_no_number_for_is_a_string(project: Project) -> None:
    assert (await project.post("infinite")).json() == "Infinity"


async def test_json_null_is_sql_null_and_not_the_json_value(project: Project) -> None:
    assert (await project.post("kind_of", {"p_value": None})).json() == "NULL"
    assert (await project.post("nulls_in", {"p_jsons": [None, 1, None]})).text == "2"


async def test_json_in_a_string_stays_a_string(project: Project) -> None:
    assert (await project.post("kind_of", {"p_value": '{"a": 1}'})).json() == "string"


@pytest.mark.parametrize("value", ["x", "9223372036854775808", {"a": 1}])
async def test_a_value_that_is_not_of_the_type_is_the_databases_error(project: Project, value: Any) -> None:
    response = await project.post("numbers", {"p_upto": value})
    assert response.status_code == 400
    assert response.json()["code"].startswith("22")


# Results: api/functions, api/resource_representation


async def test_void_is_no_content(project: Project) -> None:
    response = await project.post("nothing")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers


async def test_a_scalar_is_a_bare_value(project: Project) -> None:
    assert (await project.post("null_number")).text == "null"
    assert (await project.post("raw_json")).text == '{"b": 1,  "a": [2]}'
    assert (await project.post("a_point")).json() == {"x": 1, "y": 2.5}
    assert (await project.post("single_out", {"p_number": 1})).json() == {"p_next": 2}
    assert (await project.post("untyped_note")).json() == {"id": 1, "name": "one"}


async def test_a_set_is_an_array(project: Project) -> None:
    assert (await project.post("numbers", {"p_upto": 3})).json() == [1, 2, 3]
    assert (await project.post("numbers", {"p_upto": 0})).json() == []
    assert (await project.post("one_column", {"p_upto": 1})).json() == [{"value": 1}]
    assert (await project.post("two_columns", {"p_upto": 1})).json() == [{"id": 1, "name": "n1"}]
    assert (await project.post("all_notes")).json() == []
    assert (await project.post("untyped_notes")).json() == [{"id": 1, "name": "one"}]


async def test_one_object_is_asked_for_by_media_type(project: Project) -> None:
    one = "application/vnd.pgrst.object+json"
    response = await project.post("two_columns", {"p_upto": 1}, accept=one)
    assert response.json() == {"id": 1, "name": "n1"}
    assert response.headers["content-type"] == f"{one}; charset=utf-8"
    for count in (0, 2):
        body = error(await project.post("two_columns", {"p_upto": count}, accept=one), 406, "PGRST116")
        assert body["details"] == f"The result contains {count} rows"
    assert (await project.post("add_them", {"a": 1, "b": 2}, accept=one)).text == "3"


async def test_what_was_written_for_a_refused_answer_is_rolled_back(project: Project, sql: asyncpg.Connection) -> None:
    response = await project.post("add_notes", {"p_ids": [1, 2]}, accept="application/vnd.pgrst.object+json")
    error(response, 406, "PGRST116")
    response = await project.post("add_notes", {"p_ids": [1, 2]}, prefer="handling=strict, max-affected=1")
    error(response, 400, "PGRST124")
    assert await sql.fetchval("select count(*) from notes") == 0


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html, application/json;q=0.5", "application/*"])
async def test_json_is_what_there_is(project: Project, accept: str) -> None:
    assert (await project.post("add_them", {"a": 1, "b": 2}, accept=accept)).text == "3"


async def test_other_media_types_are_refused(project: Project) -> None:
    error(await project.post("nothing", accept="unknown/unknown"), 406, "PGRST107")
    error(await project.post("nothing", accept="text/csv"), 400, "PGRST127")
    error(await project.post("nothing", accept="application/vnd.pgrst.array+json;nulls=stripped"), 400, "PGRST127")


# Ranges and counts: api/pagination_count


async def test_limit_and_offset_choose_rows(project: Project) -> None:
    response = await project.client.post(
        "/rest/v1/rpc/numbers?limit=2&offset=1", json={"p_upto": 5}, headers=project.headers()
    )
    assert (response.status_code, response.json()) == (200, [2, 3])
    assert response.headers["content-range"] == "1-2/*"
    response = await project.get("numbers", {"p_upto": "5", "limit": "2"}, prefer="count=exact")
    assert (response.status_code, response.json()) == (206, [1, 2])
    assert response.headers["content-range"] == "0-1/5"
    assert response.headers["preference-applied"] == "count=exact"


async def test_the_header_range_counts_for_get(project: Project) -> None:
    response = await project.get("numbers", {"p_upto": "5"}, range="1-2", range_unit="items")
    assert response.json() == [2, 3]
    assert (await project.get("numbers", {"p_upto": "5"}, range="3-")).json() == [4, 5]
    assert (await project.post("numbers", {"p_upto": 5}, range="1-2")).json() == [1, 2, 3, 4, 5]


async def test_content_range_says_what_is_there(project: Project) -> None:
    assert (await project.post("numbers", {"p_upto": 0})).headers["content-range"] == "*/*"
    assert (await project.post("numbers", {"p_upto": 3})).headers["content-range"] == "0-2/*"
    response = await project.post("numbers", {"p_upto": 3}, prefer="count=exact")
    assert (response.status_code, response.headers["content-range"]) == (200, "0-2/3")


async def test_a_range_that_cannot_be_is_refused(project: Project) -> None:
    query = {"p_upto": "3"}
    error(await project.get("numbers", {**query, "limit": "-1"}), 416, "PGRST103")
    error(await project.get("numbers", {**query, "limit": "x"}), 400, "PGRST100")
    error(await project.get("numbers", query, range="2-1"), 416, "PGRST103")
    response = await project.get("numbers", {**query, "offset": "3"}, prefer="count=exact")
    error(response, 416, "PGRST103")
    assert response.headers["content-range"] == "*/3"
    assert (await project.get("numbers", {**query, "offset": "3"})).json() == []


async def test_a_set_has_at_most_max_rows(project: Project) -> None:
    response = await project.post("numbers", {"p_upto": 1500}, prefer="count=exact")
    assert (response.status_code, len(response.json())) == (206, 1000)
    assert response.headers["content-range"] == "0-999/1500"
    assert len((await project.post("numbers", {"p_upto": 1500})).json()) == 1000


@pytest.mark.parametrize("query", ["select=id", "order=id", "id=eq.1", "columns=id"])
async def test_filters_are_refused_rather_than_ignored(project: Project, query: str) -> None:
    response = await project.client.post(
        f"/rest/v1/rpc/two_columns?{query}", json={"p_upto": 3}, headers=project.headers()
    )
    error(response, 400, "PGRST127")


# Preferences: api/preferences


async def test_strict_handling_refuses_unknown_preferences(project: Project) -> None:
    body = error(await project.post("nothing", prefer="handling=strict, foo, tx=rollback"), 400, "PGRST122")
    assert body["details"] == "Invalid preferences: foo, tx=rollback"
    response = await project.post("add_them", {"a": 1, "b": 2}, prefer="handling=lenient, foo, return=minimal")
    assert (response.status_code, response.text) == (200, "3")
    # Removed from the documentation.
    error(await project.post("nothing", prefer="handling=strict, params=single-object"), 400, "PGRST122")


async def test_max_affected_needs_strict_handling_and_a_set(project: Project) -> None:
    response = await project.post("add_notes", {"p_ids": [1, 2]}, prefer="max-affected=1")
    assert response.json() == [1, 2]
    error(await project.post("nothing", prefer="handling=strict, max-affected=1"), 400, "PGRST128")
    response = await project.post("add_notes", {"p_ids": [3]}, prefer="handling=strict, max-affected=1")
    assert response.json() == [3]


async def test_the_time_zone_is_a_preference(project: Project) -> None:
    response = await project.post("settings", {"p_names": ["timezone"]}, prefer="timezone=Asia/Tokyo")
    assert response.json() == {"timezone": "Asia/Tokyo"}
    assert response.headers["preference-applied"] == "timezone=Asia/Tokyo"
    assert (await project.post("nothing", prefer="timezone=Jupiter/Red_Spot")).status_code == 400


# Schemas: api/schemas


async def test_a_profile_chooses_the_schema(project: Project) -> None:
    assert (await project.post("add_them", {"a": 1, "b": 2}, content_profile="other")).json() == "other"
    assert (await project.post("add_them", {"a": 1, "b": 2}, accept_profile="other")).json() == 3
    assert (await project.get("add_them", {"a": "1", "b": "2"}, accept_profile="other")).json() == "other"
    body = error(await project.post("hidden", content_profile="private"), 406, "PGRST106")
    assert body["message"] == "The schema must be one of the following: public, other"


# Who asks: auth, Supabase's api-keys and roles


async def who(project: Project, **headers: str) -> httpx.Response:
    return await project.client.post(
        "/rest/v1/rpc/settings",
        json={"p_names": ["role"]},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


async def test_the_gateway_wants_a_key_that_it_knows(project: Project) -> None:
    response = await who(project)
    assert response.status_code == 401
    assert response.json()["message"] == "No API key found in request"
    response = await who(project, apikey="sb_secret_unknown")
    assert response.status_code == 401
    assert response.json()["message"] == "Invalid API key"
    assert "code" not in response.json()
    response = await who(project, apikey=token(SECRET, "service_role"))
    assert response.status_code == 401
    assert (await project.client.post("/rest/v2/rpc/nothing")).status_code == 404


async def test_the_token_chooses_the_role(project: Project) -> None:
    key = project.config.anon_key
    for role in ("anon", "authenticated", "service_role"):
        response = await who(project, apikey=key, authorization=f"Bearer {token(SECRET, role)}")
        assert response.json() == {"role": role}
    response = await who(project, apikey=key, authorization=f"bearer {token(SECRET, None, sub='x')}")
    assert response.json() == {"role": "anon"}
    key = project.config.service_role_key
    assert (await who(project, apikey=key, authorization=f"Bearer {key}")).json() == {"role": "service_role"}
    assert (await who(project, apikey=key)).json() == {"role": "anon"}


async def test_opaque_keys_stand_for_a_role(project: Project) -> None:
    publishable, secret = project.config.publishable_key, project.config.secret_key
    assert (await who(project, apikey=publishable)).json() == {"role": "anon"}
    assert (await who(project, apikey=secret)).json() == {"role": "service_role"}
    response = await who(project, apikey=publishable, authorization=f"Bearer {token(SECRET, 'authenticated')}")
    assert response.json() == {"role": "authenticated"}
    error(await who(project, apikey=secret, authorization=f"Bearer {secret}"), 401, "PGRST301")
    assert (await who(project, apikey=publishable, authorization=f"Bearer {secret}")).status_code == 401
    assert (await who(project, apikey=secret, user_agent="Mozilla/5.0")).status_code == 401


async def test_a_token_that_cannot_be_read_is_refused(project: Project) -> None:
    other = token("another secret, of more than 32 characters", "service_role")
    unsigned = jwt.encode({"role": "service_role"}, "", algorithm="none")
    longer = jwt.encode({"role": "service_role"}, SECRET * 2, algorithm="HS512")
    for text in (other, unsigned, longer, "x", "a.b", "a.b.c", ""):
        response = await who(project, apikey=project.config.anon_key, authorization=f"Bearer {text}".strip())
        error(response, 401, "PGRST301")
        assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


async def test_the_times_of_a_token_hold_with_half_a_minute_of_grace(project: Project) -> None:
    now = time.time()
    refused: list[dict[str, Any]] = [
        {"exp": now - 60},
        {"nbf": now + 60},
        {"iat": now + 60},
        {"exp": "x"},
        {"iat": True},
    ]
    for claims in refused:
        error(await who(project, **project.headers("authenticated", **claims)), 401, "PGRST303")
    for payload in (b'{"role": 7}', b"[]", b"x"):
        bearer = f"Bearer {jwt.api_jws.encode(payload, SECRET, algorithm='HS256')}"
        error(await who(project, apikey=project.config.anon_key, authorization=bearer), 401, "PGRST303")
    held: list[dict[str, Any]] = [{"exp": now - 10}, {"nbf": now + 10}, {"exp": now + 60, "aud": "anybody"}]
    for claims in held:
        headers = project.headers("authenticated", **claims)
        assert (await who(project, **headers)).json() == {"role": "authenticated"}


async def test_an_audience_is_compared_when_one_is_configured(config: Config) -> None:
    async with serving(replace(config, audience="zora")) as url, httpx.AsyncClient(base_url=url) as client:
        project = Project(config, url, client)
        for audience, status in (("zora", 200), (["x", "zora"], 200), ([], 200), ("x", 401), ({"a": 1}, 401)):
            assert (await who(project, **project.headers("anon", aud=audience))).status_code == status, audience


async def test_without_an_anonymous_role_a_token_is_needed(config: Config) -> None:
    async with serving(replace(config, anon_role=None)) as url, httpx.AsyncClient(base_url=url) as client:
        project = Project(config, url, client)
        error(await project.post("nothing", role=None), 401, "PGRST302")
        assert (await project.post("nothing")).status_code == 204


async def test_the_authenticator_becomes_only_what_it_was_granted(project: Project) -> None:
    error(await project.post("nothing", role="postgres"), 403, "42501")
    error(await project.post("nothing", role="no_such_role"), 400, "22023")


async def test_what_is_not_granted_is_401_for_the_anonymous_and_403_for_others(project: Project) -> None:
    response = await project.post("greet", role="anon")
    error(response, 401, "42501")
    assert response.headers["www-authenticate"] == "Bearer"
    error(await project.post("greet", role=None), 401, "42501")
    assert (await project.post("greet", role="authenticated")).json() == "Hello guest"
    error(await project.post("read_secrets", role="authenticated"), 403, "42501")
    error(await project.post("read_secrets"), 403, "42501")


async def test_new_tables_are_granted_to_nobody(sql: asyncpg.Connection, project: Project) -> None:
    await sql.execute("create table if not exists fresh (id integer)")
    for role in ("anon", "authenticated", "service_role"):
        assert not await sql.fetchval("select has_table_privilege($1, 'fresh', 'select')", role)


# Transactions: transactions


async def test_a_get_and_a_stable_function_cannot_write(project: Project, sql: asyncpg.Connection) -> None:
    error(await project.get("add_note", {"p_id": "1", "p_text": "x"}), 405, "25006")
    error(await project.post("stable_but_writes", {"p_id": 1}), 405, "25006")
    assert (await project.post("add_note", {"p_id": 1, "p_text": "x"})).text == "1"
    assert await sql.fetchval("select count(*) from notes") == 1


async def test_a_request_is_seen_in_settings(project: Project) -> None:
    names = ["role", "request.method", "request.path", "request.headers", "request.jwt.claims", "request.cookies"]
    response = await project.client.post(
        "/rest/v1/rpc/settings",
        json={"p_names": [*names, "search_path", "transaction_read_only"]},
        headers={**project.headers("authenticated", sub="me"), "X-Trace": "7", "cookie": "session=abc"},
    )
    said = response.json()
    assert (said["role"], said["request.method"], said["request.path"]) == ("authenticated", "POST", "/rpc/settings")
    assert json.loads(said["request.headers"])["x-trace"] == "7"
    assert json.loads(said["request.jwt.claims"]) == {"role": "authenticated", "sub": "me"}
    assert json.loads(said["request.cookies"]) == {"session": "abc"}
    assert said["search_path"] == '"public", "public", "extensions"'
    assert said["transaction_read_only"] == "on"
    response = await project.post("settings", {"p_names": ["request.jwt.claims"]}, role=None)
    assert json.loads(response.json()["request.jwt.claims"]) == {"role": "anon"}


async def test_settings_end_with_their_request(config: Config) -> None:
    async with serving(replace(config, pool=1)) as url, httpx.AsyncClient(base_url=url) as client:
        project = Project(config, url, client)
        await project.post("settings", {"p_names": []}, prefer="timezone=Asia/Tokyo")
        response = await project.post("settings", {"p_names": ["timezone"]}, role="anon")
        assert response.json()["timezone"] != "Asia/Tokyo"


async def test_a_roles_timeout_and_a_functions_own_hold(project: Project) -> None:
    for role, timeout in (("anon", "3s"), ("authenticated", "8s"), ("service_role", "8s")):
        response = await project.post("settings", {"p_names": ["statement_timeout"]}, role=role)
        assert response.json() == {"statement_timeout": timeout}
    body = error(await project.post("slow_within", {"p_seconds": 5}), 500, "57014")
    assert body["message"] == "canceling statement due to statement timeout"


async def test_a_function_chooses_the_isolation(project: Project) -> None:
    assert (await project.post("isolation")).json() == "serializable"


async def test_a_function_may_change_status_and_headers(project: Project) -> None:
    response = await project.post("teapot")
    assert (response.status_code, response.json()) == (418, {"short": True})
    assert response.headers["cache-control"] == "public"
    assert response.headers["x-kind"] == "tea"


# Errors: errors


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("08006", 503),
        ("09000", 500),
        ("0L000", 403),
        ("0P000", 403),
        ("22012", 400),
        ("23502", 400),
        ("23503", 409),
        ("23505", 409),
        ("25006", 405),
        ("25001", 500),
        ("28P01", 403),
        ("2D000", 500),
        ("38000", 500),
        ("39000", 500),
        ("3B000", 500),
        ("40001", 500),
        ("40P01", 500),
        ("42501", 403),
        ("42601", 400),
        ("42883", 404),
        ("42P01", 404),
        ("42P17", 500),
        ("53300", 503),
        ("53400", 500),
        ("54000", 500),
        ("55P03", 500),
        ("57014", 500),
        ("58030", 500),
        ("F0000", 500),
        ("HV000", 500),
        ("P0001", 400),
        ("P0002", 500),
        ("PT400", 400),
        ("PT402", 402),
        ("PT404", 404),
        ("PT409", 409),
        ("XX000", 500),
        ("ZZ000", 400),
    ],
)
async def test_an_sqlstate_has_its_status(project: Project, state: str, status: int) -> None:
    assert status_of(state, authenticated=True) == status
    if state.startswith("08"):
        return  # the driver takes it for a lost connection
    response = await project.post("fail", {"p_state": state, "p_detail": "why", "p_hint": "what"})
    assert error(response, status, state) == {
        "code": state,
        "message": "I refuse",
        "details": "why",
        "hint": "what",
    }


async def test_an_exception_is_said_as_it_was_raised(project: Project) -> None:
    assert error(await project.post("fail_plainly"), 400, "P0001") == {
        "message": "I refuse!",
        "details": "Pretty simple",
        "hint": "There is nothing you can do.",
        "code": "P0001",
    }


async def test_errors_of_the_database_itself(project: Project) -> None:
    error(await project.post("missing_table"), 404, "42P01")
    error(await project.post("missing_function"), 404, "42883")
    await project.post("add_note", {"p_id": 1, "p_text": "x"})
    body = error(await project.post("add_note", {"p_id": 1, "p_text": "y"}), 409, "23505")
    assert body["details"] == "Key (id)=(1) already exists."
    assert body["hint"] is None
    body = error(await project.post("add_note", {"p_id": 2, "p_text": None}), 400, "23502")
    assert body["details"] == "Failing row contains (2, null)."


async def test_an_error_at_commit_is_an_error(project: Project, sql: asyncpg.Connection) -> None:
    error(await project.post("add_child", {"p_note_id": 7}), 409, "23503")
    assert await sql.fetchval("select count(*) from children") == 0


async def test_a_pgrst_error_says_everything_itself(project: Project) -> None:
    message = {"code": "123", "message": "Payment Required", "details": "Quota exceeded", "hint": "Upgrade"}
    detail = {"status": 402, "headers": {"X-Powered-By": "Nerd Rage"}}
    response = await project.post("fail_in_full", {"p_message": json.dumps(message), "p_detail": json.dumps(detail)})
    assert error(response, 402, "123") == message
    assert response.headers["x-powered-by"] == "Nerd Rage"
    error(await project.post("fail_in_full", {"p_message": "x", "p_detail": "{}"}), 500, "PGRST121")


async def test_functions_know_get_and_post(project: Project) -> None:
    for method in ("DELETE", "PATCH", "PUT"):
        response = await project.client.request(method, "/rest/v1/rpc/nothing", headers=project.headers())
        error(response, 405, "PGRST101")
    response = await project.client.head("/rest/v1/rpc/numbers?p_upto=3", headers=project.headers())
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-range"] == "0-2/*"
    error(await project.client.get("/rest/v1/notes", headers=project.headers()), 400, "PGRST127")


async def test_two_that_wait_for_one_another_are_told_of_it(project: Project) -> None:
    responses = await asyncio.gather(
        project.post("lock_both", {"p_first": 1, "p_second": 2}),
        project.post("lock_both", {"p_first": 2, "p_second": 1}),
    )
    assert sorted(response.status_code for response in responses) == [204, 500]
    error(max(responses, key=lambda response: response.status_code), 500, "40P01")


# Schema cache: schema_cache, listener


async def eventually(project: Project, function: str, status: int, arguments: Any = None) -> httpx.Response:
    """Call until the status is as expected."""
    for _ in range(200):
        response = await project.post(function, arguments)
        if response.status_code == status:
            return response
        await asyncio.sleep(0.02)
    raise AssertionError(f"{function} still has {response.status_code}: {response.text}")


@pytest.mark.parametrize("notice", ["notify pgrst, 'reload schema'", "notify pgrst"])
async def test_a_new_function_is_known_after_a_notification(
    project: Project, sql: asyncpg.Connection, notice: str
) -> None:
    name = f"newcomer_{uuid4().hex}"
    await sql.execute(f"create function {name}() returns integer language sql as $$ select 1 $$")
    await sql.execute("notify pgrst, 'reload config'")
    await asyncio.sleep(0.2)
    error(await project.post(name), 404, "PGRST202")
    await sql.execute(notice)
    assert (await eventually(project, name, 200)).text == "1"


async def test_a_function_that_changed_under_the_cache_is_the_databases_error(
    project: Project, sql: asyncpg.Connection
) -> None:
    await sql.execute("create or replace function leaver(p_a integer) returns integer language sql as $$ select 1 $$")
    await sql.execute("notify pgrst")
    await eventually(project, "leaver", 200, {"p_a": 1})
    await sql.execute("drop function leaver")
    error(await project.post("leaver", {"p_a": 1}), 404, "42883")


async def test_a_listener_that_was_lost_comes_back_and_reads_anew(project: Project, sql: asyncpg.Connection) -> None:
    await sql.execute("drop function if exists later; create function later() returns integer language sql return 1")
    await sql.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where usename = 'authenticator' and query ilike 'listen%' and datname = current_database()"
    )
    assert (await eventually(project, "later", 200)).text == "1"


# The database is away


async def test_a_lost_connection_is_503_and_the_next_request_works(project: Project, sql: asyncpg.Connection) -> None:
    call = asyncio.create_task(project.post("slow", {"p_seconds": 5}))
    ended = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where usename = 'authenticator' and wait_event = 'PgSleep'"
    )
    for _ in range(200):
        if await sql.fetchval(ended):
            break
        await asyncio.sleep(0.02)
    response = await call
    # The server says 57P01 before it closes, which the table of statuses has under 57.
    assert (response.status_code, response.json()["code"]) in ((500, "57P01"), (503, "PGRST001"))
    assert (await project.post("nothing")).status_code == 204


async def test_a_database_that_cannot_be_reached_is_503(project: Project, sql: asyncpg.Connection) -> None:
    await sql.execute("alter role authenticator nologin")
    try:
        await sql.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'authenticator'")
        # Connections that were open say first that they are lost.
        while (response := await project.post("nothing")).json()["code"] != "PGRST000":
            assert response.json()["code"] in ("PGRST001", "57P01")
        error(response, 503, "PGRST000")
    finally:
        await sql.execute("alter role authenticator login")
    assert (await project.post("nothing")).status_code == 204


async def test_it_starts_without_a_database_and_says_when_to_ask_again(config: Config, sql: asyncpg.Connection) -> None:
    await sql.execute("alter role authenticator nologin")
    try:
        async with serving(config) as url, httpx.AsyncClient(base_url=url) as client:
            project = Project(config, url, client)
            response = await project.post("nothing")
            error(response, 503, "PGRST002")
            assert int(response.headers["retry-after"]) >= 1
            await sql.execute("alter role authenticator login")
            await eventually(project, "nothing", 204)
    finally:
        await sql.execute("alter role authenticator login")


async def test_a_transaction_names_its_access_mode(project: Project, sql: asyncpg.Connection) -> None:
    await sql.execute("alter role authenticator set default_transaction_read_only = on")
    try:
        await sql.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'authenticator'")
        # Connections that were open say first that they are lost.
        await eventually(project, "ensure_tenant", 200, {"p_id": TENANT, "p_name": "default", "p_slug": "default"})
    finally:
        await sql.execute("alter role authenticator reset default_transaction_read_only")


async def test_a_lock_is_waited_for_as_long_as_the_authenticator_may(project: Project, sql: asyncpg.Connection) -> None:
    assert "lock_timeout=8s" in await sql.fetchval("select rolconfig from pg_roles where rolname = 'authenticator'")


async def test_a_pool_that_stays_empty_is_504(config: Config) -> None:
    async with serving(replace(config, pool=1, pool_timeout=0.2)) as url, httpx.AsyncClient(base_url=url) as client:
        project = Project(config, url, client)
        await project.post("nothing")
        slow = asyncio.create_task(project.post("slow", {"p_seconds": 1}))
        await asyncio.sleep(0.1)
        error(await project.post("nothing"), 504, "PGRST003")
        assert (await slow).status_code == 204


# ZORA's own functions


async def test_a_task_is_created_claimed_and_settled(project: Project) -> None:
    task = {"agent_id": "LUMINA", "task_type": "plan_workflow", "title": "t", "payload": {"n": 1}}
    response = await project.post(
        "create_agent_tasks", {"p_tenant_id": TENANT, "p_tasks": [task, {**task, "title": "u"}]}
    )
    created = response.json()
    assert [row["title"] for row in created] == ["t", "u"]
    assert created[0]["payload"] == {"n": 1}
    assert created[0]["run_at"] is None or isinstance(created[0]["run_at"], str)
    response = await project.post(
        "claim_agent_tasks", {"p_tenant_id": TENANT, "p_worker_id": "w", "p_limit": 2, "p_lease_seconds": 30.5}
    )
    claimed = response.json()
    ids, tokens = [row["id"] for row in claimed], [row["lease_token"] for row in claimed]
    assert ids == [row["id"] for row in created]
    assert claimed[0]["created_at"] == "2026-03-02T09:00:00+00:00"
    response = await project.post(
        "heartbeat_agent_tasks",
        {"p_ids": ids, "p_lease_tokens": tokens, "p_progress": [0.5, None], "p_messages": [None, "half"]},
    )
    assert [row["state"] for row in response.json()] == ["held", "held"]
    response = await project.post(
        "settle_agent_tasks",
        {
            "p_ids": ids,
            "p_lease_tokens": tokens,
            "p_outcomes": ["completed", "error"],
            "p_summaries": ["done", None],
            "p_results": [{"suggestions": [], "ü": [1, None]}, None],
            "p_errors": [None, "it broke"],
            "p_failure_kinds": [None, None],
            "p_delays": [None, 12.5],
        },
    )
    settled = {row["id"]: row for row in response.json()}
    assert settled[ids[0]] == {
        "id": ids[0],
        "lease_token": tokens[0],
        "status": "completed",
        "waiting_for": None,
        "run_at": None,
    }
    assert settled[ids[1]]["waiting_for"] == "retry"
    assert settled[ids[1]]["run_at"] == "2026-03-02T09:00:12.5+00:00"


async def test_our_errors_have_their_status(project: Project) -> None:
    error(await project.post("create_agent_tasks", {"p_tenant_id": TENANT, "p_tasks": {}}), 400, "PT400")
    error(await project.post("get_agent_task", {"p_tenant_id": TENANT, "p_id": str(uuid4())}), 404, "PT404")


async def test_the_anonymous_reach_no_table_of_ours(project: Project) -> None:
    response = await project.post("claim_agent_tasks", {"p_tenant_id": TENANT, "p_worker_id": "w"}, role="anon")
    error(response, 401, "42501")


# As a process, and its configuration


async def test_it_runs_as_a_process(project_database: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "tests.postgrest", "--prepare", "--database-url", project_database[0]]
    process = await asyncio.create_subprocess_exec(*command, "--jwt-secret", SECRET, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient(base_url=url, headers={"apikey": "sb_secret_test"}) as client:
            response = await client.post("/rest/v1/rpc/add_them", json={"a": 1, "b": 2})
        assert response.text == "3"
    finally:
        process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_roles_are_made_once(project_database: tuple[str, str]) -> None:
    assert await prepare(project_database[0]) == await prepare(project_database[0])


async def test_a_short_secret_is_refused(config: Config) -> None:
    with pytest.raises(ValueError, match="at least 32"):
        replace(config, jwt_secret="short")
