"""`zora doctor` with a project of Supabase: the first thing that is wrong, and the line that mends it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.supabase import TENANT_ID, Project, project_on, stand_in
from tests.conftest import SECRET, Server
from tests.postgrest import Config
from tests.postgrest.supabase import REVOKE_API_ROLE
from zora_core import __version__
from zora_core.database import schema

LATEST = schema.latest_version()


@pytest.fixture(scope="module")
def empty(embedded: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which nothing has been done, for tests that leave it so."""
    with project_on(embedded, tmp_path_factory.mktemp("home")) as project:
        yield project


@pytest.fixture(scope="module")
def installed(embedded: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that is ready, for tests that leave it so."""
    with project_on(embedded, tmp_path_factory.mktemp("home")) as project:
        project.install()
        project.zora("tenants", "add", "Acme")
        yield project


@pytest.fixture
def fresh(embedded: Server, tmp_path: Path) -> Iterator[Project]:
    """A project of the test's own, with the schema."""
    with project_on(embedded, tmp_path) as project:
        project.install()
        yield project


def checks(project: Project, *, status: int = 0, **environment: str) -> dict[str, tuple[str, str]]:
    found = json.loads(project.zora("doctor", "--json", status=status, **environment))
    return {check["name"]: (check["state"], check["found"]) for check in found}


def wrong(project: Project, name: str, **environment: str) -> str:
    """What is said of the last check, which is the only one that is wrong."""
    found = checks(project, status=1, **environment)
    assert [check for check, (state, _) in found.items() if state == "wrong"] == [name] == list(found)[-1:]
    return found[name][1]


@contextmanager
def answering(status: int, body: str, content_type: str = "application/json") -> Iterator[str]:
    """The address of a server that answers everything with the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_project_that_is_ready_is_found_so_in_order(installed: Project) -> None:
    found = checks(installed)
    assert list(found) == [
        "versions", "connection", "schema", "latency", "tenant", "zora_api", "server", "clock", "sessions", "dead rows",
        "transaction ids", "queue", "stuck tasks", "schedules", "journal",
    ]  # fmt: skip
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["connection"][1].startswith("SUPABASE_URL (127.0.0.1), over HTTP: no notifications")
    assert "the median of three" in found["latency"][1]
    assert found["tenant"][1] == str(TENANT_ID)


def test_a_server_that_is_not_there_is_asked_about(installed: Project) -> None:
    with answering(200, "") as gone:
        pass
    said = wrong(installed, "connection", SUPABASE_URL=gone)
    assert "SUPABASE_URL (127.0.0.1) cannot be reached" in said
    assert "Is SUPABASE_URL the project's own, https://REF.supabase.co, is this machine online" in said


@pytest.mark.parametrize(
    ("status", "body", "content_type", "message"),
    [
        (200, "<html>", "text/html", "is not PostgREST: it sent 'text/html'"),
        (404, "<html>", "text/html", "status 404 (Not Found): is SUPABASE_URL the project's URL, https://REF.supabase"),
        (301, "", "text/html", "status 301"),
        (540, "", "text/plain", "the project is paused: resume it in Supabase's dashboard"),
        (402, '{"message": "exceed_egress_quota"}', "application/json", "is restricted (exceed_egress_quota)"),
        (200, '{"hello": "world"}', "application/json", "not as the function call_functions does"),
    ],
)
def test_whatever_else_answers_is_named(
    installed: Project, status: int, body: str, content_type: str, message: str
) -> None:
    with answering(status, body, content_type) as url:
        assert message in wrong(installed, "connection", SUPABASE_URL=url)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "sb_secret_of_another_project",
            "refuses the key in SUPABASE_SERVICE_KEY: Invalid API key. Copy the secret key",
        ),
        ("sb_publishable_test", "is the public key (sb_publishable_…)"),
        (Config(database_url="", jwt_secret=SECRET).anon_key, "is the public key (anon)"),
        ("sb_secret_te st", "holds a character that no key has"),
    ],
)
def test_a_key_that_does_not_do_is_named_and_not_shown(installed: Project, key: str, message: str) -> None:
    said = wrong(installed, "connection", SUPABASE_SERVICE_KEY=key)
    assert message in said
    assert key not in said


def test_a_project_without_the_schema_is_told_which_script_to_run(empty: Project) -> None:
    said = wrong(empty, "schema")
    assert "the database lacks a function of this zora" in said
    assert "run the output of `zora schema --supabase` in the project's SQL editor" in said


def test_functions_that_the_api_has_not_noticed_are_shown_to_it_by_the_line_that_is_named(
    embedded: Server, tmp_path: Path
) -> None:
    with project_on(embedded, tmp_path) as project:
        notify = "notify pgrst, 'reload schema'"
        project.sql(schema.render_script(supabase=True).replace(f"{notify};", ""))
        said = wrong(project, "schema")
        assert f"run `{notify}` there" in said
        project.sql(said.split("`")[3])
        project.wait_until_known()
        assert checks(project, status=1)["schema"][0] == "ok"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("truncate zora_migrations, zora_functions", "version 0, this zora needs {latest}: run the output of"),
        ("delete from zora_migrations where version = {latest}", "version {before}, this zora needs {latest}: run"),
        (
            "insert into zora_migrations values ({after}, 'x'); update zora_functions set release = '9.0.0'",
            "version {after} of zora 9.0.0, this zora {release} knows version {latest}: upgrade",
        ),
        ("update zora_functions set digest = 'x'", "functions are not those of this zora: run the output of"),
    ],
)
def test_another_version_is_told_what_to_run(fresh: Project, change: str, message: str) -> None:
    numbers = {"before": LATEST - 1, "latest": LATEST, "after": LATEST + 1, "release": __version__}
    fresh.sql(change.format(**numbers))
    assert message.format(**numbers) in wrong(fresh, "schema")


def test_a_function_that_the_key_may_not_call_is_given_back_by_the_script(fresh: Project) -> None:
    fresh.sql("revoke execute on function call_functions from service_role")
    said = wrong(fresh, "connection")
    assert "permission denied for function call_functions" in said
    assert "run the output of `zora schema --supabase`" in said


def test_a_schema_that_is_not_exposed_is_named_and_its_place_among_others_does_not_matter(installed: Project) -> None:
    installed.sql("create schema if not exists other")
    with stand_in(installed.authenticator_url, "--schema=other") as url:
        said = wrong(installed, "connection", SUPABASE_URL=url)
        assert "does not show the schema public: enable the Data API and add the schema to “Exposed schemas”" in said
    with stand_in(installed.authenticator_url, "--schema=other", "--schema=public") as url:
        assert checks(installed, SUPABASE_URL=url)["schema"][0] == "ok"


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (REVOKE_API_ROLE, "grant zora_api to authenticator"),
        ("alter role zora_api rename to away", "alter role away rename to zora_api"),
    ],
)
def test_without_its_role_zora_serve_is_said_not_to_work_and_all_else_does(
    installed: Project, spoil: str, mend: str
) -> None:
    installed.sql(spoil, administrator=True)
    try:
        found = checks(installed)
        refused = installed.zora("serve", "--port=0", status=2)
    finally:
        installed.sql(mend, administrator=True)
    assert found["zora_api"][0] == "note"
    assert found["journal"][0] == "ok"
    for said in (found["zora_api"][1], refused):
        assert "the database role zora_api is missing, or authenticator may not act as it" in said


def test_a_tenant_that_is_not_there_is_made_by_the_command_that_is_named(fresh: Project) -> None:
    said = wrong(fresh, "tenant")
    assert f"no tenant '{TENANT_ID}' (known: none)" in said
    assert "`zora tenants add NAME` makes it" in said
    for command in (["run-once"], ["status"], ["create-task", "EIVOR", "memory_cleanup", "x"]):
        assert said in fresh.zora(*command, status=2)
    made = fresh.zora("tenants", "add", "Acme & Söhne")
    assert made.splitlines()[0] == f"Made the tenant Acme & Söhne: {TENANT_ID}, or `--tenant acme-s-hne`."
    assert "already" in fresh.zora("tenants", "add", "Acme")
    assert checks(fresh)["tenant"] == ("ok", str(TENANT_ID))
    assert "No task is claimable" in fresh.zora("--tenant", "acme-s-hne", "run-once")


def test_a_clock_that_differs_is_noted(fresh: Project) -> None:
    fresh.zora("tenants", "add", "Acme")
    fresh.sql("""
        alter function database_health(uuid) rename to real_health;
        create function database_health(p_tenant_id uuid) returns jsonb language sql as $$
            select real_health(p_tenant_id) || jsonb_build_object('server_time', clock_timestamp() + interval '1 hour')
        $$;
    """)
    state, said = checks(fresh)["clock"]
    assert state == "note"
    assert "differs from the server's by 3" in said


def test_of_two_databases_the_one_that_is_used_is_named(installed: Project) -> None:
    state, said = checks(installed, DATABASE_URL="postgresql://zora@127.0.0.1:1/zora")["connection"]
    assert state == "note"
    assert said.endswith("DATABASE_URL is set as well and not used: unset one of them")
