"""Everything that can go wrong on the way is an error of ours, says what to do, and does not tell the key."""

from __future__ import annotations

import asyncio
import gzip
import logging
import re
import socket
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SECRET, Server, Zora
from tests.http.conftest import KEY
from tests.http.gateway import Gateway, said, say
from tests.https import https_server, make_certificate
from tests.postgrest import Config, authenticator_url, prepare, serving, token
from zora_core.database import postgrest, schema
from zora_core.database.postgrest import ATTEMPTS, PostgrestDatabase
from zora_core.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DataRejected,
    DuplicateKey,
    InvalidInput,
    InvalidState,
    NotAllowed,
    NotFound,
    RequestTooLarge,
    SchemaError,
    TooMuchAtOnce,
    UnexpectedAnswer,
    ZoraError,
)
from zora_core.settings import Settings

OPAQUE = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
HTML = b"<html><body><h1>Something is wrong</h1></body></html>"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for key in (KEY, OPAQUE):
        assert key not in caplog.text


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    yield error
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from chain_of(other)


def everything_about(error: BaseException) -> str:
    texts = ["".join(traceback.format_exception(error))]
    texts += [f"{one!s} {one!r} {one.args!r} {vars(one)!r}" for one in chain_of(error)]
    return "\n".join(texts)


async def _call(settings: Settings, key: str, function: str, arguments: dict[str, Any]) -> None:
    database = await postgrest.connect(settings)
    try:
        assert key not in repr(database) + repr(database._client)
        await database.call(function, **arguments)
    finally:
        await database.close()


async def refusal(settings: Settings, function: str = "zora_now", **arguments: Any) -> ZoraError:
    """The error that a call ends with; the key is nowhere in it, and not in the settings."""
    key = settings.supabase_service_key
    assert key is not None
    with pytest.raises(ZoraError) as caught:
        await _call(settings, key, function, arguments)
    assert key not in everything_about(caught.value) + repr(settings)
    assert key.rpartition(".")[2] not in everything_about(caught.value), "nor a part of it"
    return caught.value


def project(url: str, key: str = KEY) -> Settings:
    return Settings(home=Path(), supabase_url=url, supabase_service_key=key)


# What the database says, over the stand-in


@pytest.mark.parametrize(
    ("state", "detail", "kind", "words"),
    [
        ("PT400", None, InvalidInput, "I refuse"),
        ("PT403", None, NotAllowed, "I refuse"),
        ("PT404", None, NotFound, "I refuse"),
        ("PT409", None, InvalidState, "I refuse"),
        ("23505", None, DuplicateKey, "I refuse"),
        ("23505", "Key (email)=(ada@example.com) already exists.", DuplicateKey, "something with this key exists"),
        ("23514", "Failing row contains (secret).", DataRejected, "the database refuses a value: I refuse"),
        ("22003", None, DataRejected, "the database refuses a value: I refuse"),
        ("54000", None, DataRejected, "the database refuses a value: I refuse"),
        ("42501", None, ConfigurationError, "SUPABASE_SERVICE_KEY may not do this"),
        ("P0001", None, UnexpectedAnswer, "the database reports I refuse (P0001)"),
    ],
)
async def test_an_error_of_the_database_is_ours_and_quotes_no_row(
    through: PostgrestDatabase, gateway: Gateway, state: str, detail: str | None, kind: type[ZoraError], words: str
) -> None:
    with pytest.raises(kind, match=re.escape(words)) as caught:
        await through.call("probe_fail", state=state, detail=detail)
    assert type(caught.value) is kind
    assert detail is None or detail not in everything_about(caught.value)
    assert len(gateway.seen) == 1, "it is not sent again"


async def test_a_constraint_says_nothing_about_rows(zora: Zora) -> None:
    value = "".join(("ada", "@example.com"))
    await zora.sql("create unique index probe_unique on probe_calls (said)")
    await zora.database.call("probe_call", said=value)
    try:
        with pytest.raises(DuplicateKey) as caught:
            await zora.database.call("probe_call", said=value)
    finally:
        await zora.sql("drop index probe_unique")
    assert str(caught.value) == "something with this key exists already"
    assert value not in everything_about(caught.value)


async def test_functions_and_parameters_that_are_not_there(zora: Zora) -> None:
    for function, arguments in (("no_such_function", {}), ("zora_now", {"moment": 1}), ("probe_call", {"sai": "x"})):
        with pytest.raises(SchemaError, match=r"zora schema --supabase.*reload schema"):
            await zora.database.call(function, **arguments)


async def test_a_statement_that_takes_too_long_is_not_begun_again(zora: Zora, server: Server, gateway: Gateway) -> None:
    await server.admin("alter role service_role set statement_timeout = '100ms'")
    try:
        config = Config(database_url=authenticator_url(zora.url), jwt_secret=SECRET)
        async with serving(config) as url, Gateway(url).listening() as behind:
            error = await refusal(project(behind.url, config.secret_key), "probe_sleep", seconds=60)
            assert len(behind.seen) == 1
    finally:
        await server.admin("alter role service_role reset statement_timeout")
    assert isinstance(error, TooMuchAtOnce)
    assert "within its time limit: canceling statement due to statement timeout" in str(error)


# Keys


async def test_a_wrong_key_is_named(server: Server) -> None:
    url = (await server.project()).supabase_url or ""
    for key in (OPAQUE, token("another secret of more than 32 characters", "service_role")):
        error = await refusal(project(url, key))
        assert isinstance(error, ConfigurationError)
        assert "refuses the key in SUPABASE_SERVICE_KEY: Invalid API key. Copy the secret key" in str(error)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (token(SECRET, "anon"), "is the public key (anon)"),
        ("sb_publishable_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", "is the public key (sb_publishable_…)"),
        ("sb_secret_abc\x07def", "holds a character that no key has"),
        ("sb_secret_abc def", "holds a character that no key has"),
        ("sb_secret_abc\r\nx-other: 1", "holds a character that no key has"),
        ("sb_secret_äbc", "holds a character that no key has"),
        ("“sb_secret_abc”", "holds a character that no key has"),
    ],
    ids=["anon", "publishable", "bell", "space", "newline", "letter", "quotes"],
)
async def test_a_key_that_cannot_be_right_is_never_sent(gateway: Gateway, key: str, words: str) -> None:
    error = await refusal(project(gateway.url, key))
    assert isinstance(error, ConfigurationError)
    assert words in str(error)
    assert gateway.connections == 0


async def test_a_token_is_sent_twice_and_an_opaque_key_once(gateway: Gateway) -> None:
    gateway.otherwise = say(540)
    for key in (KEY, OPAQUE):
        await refusal(project(gateway.url, key))
    first, second = (request.headers for request in gateway.seen)
    assert (first["apikey"], first["authorization"]) == (KEY, f"Bearer {KEY}")
    assert second["apikey"] == OPAQUE
    assert "authorization" not in second


# Addresses


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://ref.supabase.co", "would travel to ref.supabase.co unencrypted: use https://"),
        ("http://8.8.8.8:3000", "would travel to 8.8.8.8 unencrypted"),
        ("http://[2001:4860:4860::8888]", "unencrypted"),
        ("http://134744072", "unencrypted"),  # 8.8.8.8
        ("ref.supabase.co", "must be an address such as https://REF.supabase.co"),
        ("postgresql://postgres@ref.supabase.co/postgres", "must be an address"),
        ("https://", "must be an address"),
        ("https://ref.supabase.co?x=1", "must be an address"),
        ("https://ref.supabase.co#x", "must be an address"),
        ("https://me:hunter2@ref.supabase.co", "must be an address"),
        ("https://ref.supabase.co:99999", "must be an address"),
        ("https://[ref", "must be an address"),
        ("https://ref supabase.co", "must be an address"),
        ("https://ref.supabase.co/a\tb\x7f", "must be an address"),
    ],
)
async def test_an_address_that_cannot_be_right_is_refused_before_anything_is_sent(url: str, words: str) -> None:
    error = await refusal(project(url))
    assert isinstance(error, ConfigurationError)
    assert words in str(error)
    assert "hunter2" not in everything_about(error)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://ref.supabase.co", "https://ref.supabase.co/rest/v1/"),
        ("https://ref.supabase.co/", "https://ref.supabase.co/rest/v1/"),
        ("https://ref.supabase.co/rest/v1/", "https://ref.supabase.co/rest/v1/"),
        ("https://example.com/supabase", "https://example.com/supabase/rest/v1/"),
        ("http://localhost:54321", "http://localhost:54321/rest/v1/"),
        ("http://kong:8000", "http://kong:8000/rest/v1/"),
        ("http://10.0.0.7", "http://10.0.0.7/rest/v1/"),
        ("http://[::1]:3000", "http://[::1]:3000/rest/v1/"),
        ("http://db.internal", "http://db.internal/rest/v1/"),
    ],
)
async def test_an_address_leads_to_the_api(url: str, base: str) -> None:
    database = await postgrest.connect(project(url))
    assert str(database._client.base_url) == base
    await database.close()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", "socks5://u:hunter2@127.0.0.1:1080", "the proxy in ALL_PROXY: SOCKS proxies are not supported"),
        ("HTTPS_PROXY", "ftp://u:hunter2@x", "the proxy in HTTPS_PROXY: it is not a valid proxy address"),
        ("http_proxy", "http://u:hunter2@[::1", "the proxy in http_proxy: it is not a valid proxy address"),
        ("SSL_CERT_FILE", "/no/such/hunter2.crt", "the certificates that SSL_CERT_FILE names (No such file"),
        ("SSL_CERT_FILE", __file__, "the certificates that SSL_CERT_FILE names ("),
    ],
)
async def test_a_proxy_or_certificates_that_cannot_be_used_are_named_without_their_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        await postgrest.connect(project("https://ref.supabase.co"))
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_host_that_does_not_answer(pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = await refusal(project(f"http://127.0.0.1:{port}"))
    assert isinstance(error, DatabaseUnavailable)
    assert "SUPABASE_URL (127.0.0.1) cannot be reached: " in str(error)
    assert len(pauses) == ATTEMPTS - 1


async def test_a_host_that_nobody_knows(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await refusal(project("https://ref.supabase.co"))
    assert isinstance(error, DatabaseUnavailable)
    assert "SUPABASE_URL (ref.supabase.co) cannot be reached" in str(error)
    assert "Name or service not known" in str(error)


async def test_a_certificate_of_nobodys_is_refused(pauses: list[float], tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raise AssertionError("nothing is sent to a host that is not who it says it is")

    with https_server(make_certificate(tmp_path, 1), Handler) as impostor:
        error = await refusal(project(impostor.url))
    assert isinstance(error, DatabaseUnavailable)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


# What gateways, proxies and others say

JSON_401 = {"message": "Invalid API key", "hint": "Double check your Supabase `anon` or `service_role` API key."}
WHICH_URL = "is SUPABASE_URL the project's URL, https://REF.supabase.co, and does nothing stand in between?"


@pytest.mark.parametrize(
    ("treatment", "kind", "words"),
    [
        (say(401, JSON_401), ConfigurationError, "refuses the key in SUPABASE_SERVICE_KEY: Invalid API key"),
        (say(401, HTML), ConfigurationError, "refuses the key in SUPABASE_SERVICE_KEY"),
        (
            say(401, {"code": "PGRST301", "message": "No suitable key or wrong key type"}),
            ConfigurationError,
            "No suitable key or wrong key type. Copy the secret key",
        ),
        (say(401, {"code": "PGRST303", "message": "JWT expired"}), ConfigurationError, "JWT expired. Copy the secret"),
        (
            say(401, {"code": "42501", "message": "permission denied for function call_functions"}),
            ConfigurationError,
            "SUPABASE_SERVICE_KEY",
        ),
        (
            say(403, {"code": "42501", "message": "permission denied for table agent_tasks"}),
            ConfigurationError,
            "permission denied for table agent_tasks: the key in SUPABASE_SERVICE_KEY may not do this",
        ),
        (
            say(406, {"code": "PGRST106", "message": "The schema must be one of the following: api"}),
            ConfigurationError,
            "“Exposed schemas”",
        ),
        (
            say(404, {"code": "PGRST202", "message": "Could not find the function public.call_functions"}),
            SchemaError,
            "zora schema --supabase",
        ),
        (say(540), ConfigurationError, "the project is paused: resume it"),
        (say(540, {"message": "Project paused"}), ConfigurationError, "the project is paused: resume it"),
        (say(404, HTML), ConfigurationError, WHICH_URL),
        (say(404, {"message": "no Route matched with those values"}), ConfigurationError, "no Route matched"),
        (say(403, HTML), ConfigurationError, WHICH_URL),
        (say(405), ConfigurationError, WHICH_URL),
        (say(301, b"", location="https://elsewhere.example/"), ConfigurationError, WHICH_URL),
        (say(308, HTML, location="/login"), ConfigurationError, WHICH_URL),
        (say(413, HTML), RequestTooLarge, "refuses a request of this size"),
        (say(200, HTML), ConfigurationError, "is not PostgREST: it sent 'text/html' instead of JSON"),
        (say(200), ConfigurationError, "is not PostgREST"),
        (say(204), ConfigurationError, "is not PostgREST"),
        (say(200, {"status": "ok"}), ConfigurationError, "not as the function call_functions does"),
        (say(200, []), ConfigurationError, "not as the function call_functions does"),
        (say(200, None), ConfigurationError, "not as the function call_functions does"),
        (say(200, [{"columns": [["a", "uuid"]], "rows": [{"a": 5}]}]), ConfigurationError, "not as the function"),
        (say(200, [{"columns": [["a", "numeric"]], "rows": [{"a": "x"}]}]), ConfigurationError, "not as the function"),
    ],
    ids=lambda value: "" if callable(value) else None,
)
async def test_an_answer_that_is_final_is_explained_and_not_asked_for_again(
    gateway: Gateway, pauses: list[float], treatment: Any, kind: type[ZoraError], words: str
) -> None:
    gateway.otherwise = treatment
    error = await refusal(project(gateway.url))
    assert type(error) is kind
    assert words in str(error)
    assert (len(gateway.seen), pauses) == (1, [])


@pytest.mark.parametrize("body", [{"message": "Bad things"}, HTML, b""], ids=["json", "html", "empty"])
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 521, 522, 530, 544])
async def test_what_may_pass_is_tried_again_until_the_attempts_are_used_up(
    gateway: Gateway, pauses: list[float], status: int, body: Any
) -> None:
    gateway.otherwise = say(status, body)
    error = await refusal(project(gateway.url))
    assert type(error) is DatabaseUnavailable
    assert f"cannot serve this at the moment: {'Bad things' if isinstance(body, dict) else 'Said'}" in str(error)
    assert f"status {status}" in str(error)
    assert (len(gateway.seen), len(pauses)) == (ATTEMPTS, ATTEMPTS - 1)
    assert len({request.body for request in gateway.seen}) == 1, "under the same id"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "40P01"),
        (500, "40001"),
        (503, "53300"),
        (500, "57P01"),
        (500, "57P03"),
        (503, "08006"),
        (405, "25006"),  # a read-only transaction is no wrong method
        (500, "53100"),
        (400, "55P03"),
        (500, "58030"),
        (500, "XX000"),
        (200, "40001"),
        (503, "PGRST000"),
        (503, "PGRST001"),
        (503, "PGRST002"),
        (504, "PGRST003"),
    ],
)
async def test_what_the_database_cannot_do_at_the_moment_is_tried_again(
    gateway: Gateway, pauses: list[float], through: PostgrestDatabase, status: int, code: str
) -> None:
    gateway.todo.append(say(status, {"code": code, "message": "not now", "details": None, "hint": None}))
    assert await through.value("probe_call") == 1
    assert (len(gateway.seen), len(pauses)) == (2, 1)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (503, "PGRST002", "if this lasts, the Data API is disabled or exposes a schema that does not exist"),
        (405, "25006", "Supabase makes it so while the disk is over 95 % full"),
    ],
)
async def test_what_the_projects_settings_may_be_the_cause_of_is_explained(
    gateway: Gateway, pauses: list[float], status: int, code: str, words: str
) -> None:
    gateway.otherwise = say(status, {"code": code, "message": "not now", "details": None, "hint": None})
    error = await refusal(project(gateway.url))
    assert type(error) is DatabaseUnavailable
    assert words in str(error)


async def test_pauses_grow_and_a_gateway_that_names_one_gets_it(
    gateway: Gateway, pauses: list[float], through: PostgrestDatabase
) -> None:
    gateway.todo += [say(503), say(503), say(429, b"", retry_after="4"), say(429, b"", retry_after="86400")]
    gateway.todo += [say(429, b"", retry_after="Wed, 21 Oct 2026 07:28:00 GMT")]
    assert await through.value("probe_call") == 1
    first, second, asked, too_long, undated = pauses
    assert postgrest.FIRST_SECONDS / 2 <= first <= postgrest.FIRST_SECONDS <= second <= 2 * postgrest.FIRST_SECONDS
    assert (asked, too_long) == (4, 2 * postgrest.MAX_SECONDS)
    assert undated <= postgrest.MAX_SECONDS


async def test_a_page_that_shows_what_it_was_sent_does_not_get_the_key_into_an_error(gateway: Gateway) -> None:
    for status, code in ((401, ""), (403, "42501"), (400, "22023"), (404, "PGRST202"), (400, "PT400"), (500, "XX000")):
        gateway.otherwise = say(status, {"code": code, "message": f"what to do with apikey: {KEY}?"})
        assert "what to do with apikey: " in str(await refusal(project(gateway.url)))
    gateway.otherwise = say(200, b"", content_type=f"text/{KEY}")
    assert "is not PostgREST" in str(await refusal(project(gateway.url)))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["columns", "rows", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["columns", "rows", "a"]), inner),
    max_leaves=12,
)
typed = st.builds(
    lambda type_, value: said("x", a=(type_, value)),
    st.sampled_from(["uuid", "timestamp with time zone", "date", "bytea", "numeric", '"char"', "real", "uuid[]", "x"]),
    anything,
)


def test_whatever_answers_there_is_a_value_or_an_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    answers: list[Any] = []

    def respond(request: httpx.Request) -> httpx.Response:
        answer = answers.pop()
        return httpx.Response(200, json=answer) if _is_json(answer) else httpx.Response(200, text=repr(answer))

    client = httpx.AsyncClient(
        base_url="https://ref.supabase.co/", transport=httpx.MockTransport(respond), headers={"apikey": OPAQUE}
    )
    with asyncio.Runner() as runner:

        @given(anything | typed | st.lists(anything, max_size=2))
        def ask(answer: Any) -> None:
            answers.append(answer)
            try:
                runner.run(PostgrestDatabase(client).call("zora_now"))
            except ConfigurationError as error:
                assert "ref.supabase.co" in str(error)

        ask()
        runner.run(client.aclose())


def _is_json(answer: Any) -> bool:
    try:
        httpx.Response(200, json=answer)
    except ValueError:
        return False
    return True


async def test_an_answer_may_be_compressed(gateway: Gateway, through: PostgrestDatabase, pauses: list[float]) -> None:
    gateway.todo.append(say(200, b"what cannot be unpacked", content_encoding="gzip"))
    body = b'[{"columns": [["probe_call", "bigint"]], "rows": [{"probe_call": 7}]}]'
    gateway.todo.append(say(200, gzip.compress(body), content_encoding="gzip"))
    assert await through.value("probe_call") == 7
    assert len(pauses) == 1


# The schema


def installed(version: int, digest: str) -> Any:
    # Numbers may be left out.
    versions = [migration.version for migration in schema.migrations() if migration.version < version]
    columns = {"version": ("integer", version), "versions": ("integer[]", [*versions, version])}
    return say(200, said("installed_schema", **columns, digest=("text", digest)))


async def test_a_schema_that_does_not_fit_is_told_from_one_that_does(
    zora: Zora, gateway: Gateway, through: PostgrestDatabase
) -> None:
    latest, digest = schema.latest_version(), schema.functions_digest()
    assert await through.migrate() is False
    gateway.otherwise = installed(latest - 1, digest)
    with pytest.raises(
        SchemaError, match=rf"has schema version {latest - 1}, this zora needs {latest}: run the output"
    ):
        await through.check_schema()
    with pytest.raises(ConfigurationError, match="no tables made; the database has schema version"):
        await through.migrate()
    gateway.otherwise = installed(latest + 1, digest)
    with pytest.raises(SchemaError, match="upgrade zora"):
        await through.check_schema()
    gateway.otherwise = installed(latest, "other")
    with pytest.raises(SchemaError, match="functions are not those of this zora: run the output"):
        await through.check_schema()


async def test_a_project_without_the_schema_or_without_its_grants_says_which(server: Server) -> None:
    async with server.fresh() as url:
        config = Config(database_url=await prepare(url), jwt_secret=SECRET)
        async with serving(config) as standing:
            error = await refusal(project(standing, config.secret_key))
            assert isinstance(error, SchemaError)
            assert "zora schema --supabase" in str(error)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(schema.render_script())  # without the part for Supabase
        finally:
            await connection.close()
        async with serving(config) as standing:
            error = await refusal(project(standing, config.secret_key))
            assert isinstance(error, ConfigurationError)
            assert "permission denied for function call_functions" in str(error)
            assert "if it is, run the output of `zora schema --supabase`" in str(error)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(schema.render_script(supabase=True))
        finally:
            await connection.close()
        async with serving(config) as standing:
            database = await postgrest.connect(project(standing, config.secret_key))
            await database.check_schema()
            await database.close()
        async with serving(replace(config, schemas=("extensions", "public"))) as standing:
            database = await postgrest.connect(project(standing, config.secret_key))
            await database.check_schema()
            await database.close()
        async with serving(replace(config, schemas=("extensions",))) as standing:
            error = await refusal(project(standing, config.secret_key))
            assert isinstance(error, ConfigurationError)
            assert (
                "does not show the schema public: enable the Data API and add the schema to “Exposed schemas”"
                in str(error)
            )
