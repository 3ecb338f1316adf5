"""The demo in a project of Supabase: the same twelve tasks over HTTP, beside whatever else the project holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.supabase import TENANT_ID, Project, project_on
from tests.conftest import Server

ROWS = """
select 't ' || to_jsonb(t)::text from tenants as t where id = '{tenant}'
union all select 'a ' || to_jsonb(a)::text from agent_tasks as a where tenant_id = '{tenant}'
union all select 'j ' || to_jsonb(j)::text from journal_entries as j where tenant_id = '{tenant}'
union all select 'm ' || to_jsonb(m)::text from memory_events as m where tenant_id = '{tenant}'
order by 1
"""


@pytest.fixture(params=["embedded", "system"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    server: Server = request.getfixturevalue(request.param)
    with project_on(server, tmp_path) as project:
        project.install()
        yield project


def test_the_demo_completes_its_twelve_tasks_and_leaves_other_tenants_alone(project: Project) -> None:
    project.zora("tenants", "add", "Acme")
    project.zora("create-task", "EIVOR", "summarize_recent_events", "This week")
    before = project.sql(ROWS.format(tenant=TENANT_ID))
    said = project.zora("demo")
    assert said.splitlines()[0] == (
        "12 tasks created for six agents, for the tenant demo in SUPABASE_URL (127.0.0.1). Running them:"
    )
    assert "12 of 12 completed" in said
    assert project.sql(ROWS.format(tenant=TENANT_ID)) == before
    assert len(before.splitlines()) > 3
    for command in [
        line.split("  ")[1].split()[1:] for line in said.splitlines() if line.startswith("  zora --tenant")
    ]:
        project.zora(*command)


def test_the_demo_needs_no_tenant_of_its_user(project: Project) -> None:
    assert {run["status"] for run in json.loads(project.zora("demo", "--json"))} == {"completed"}


def test_the_demo_does_not_take_over_a_tenant_that_has_its_name(project: Project) -> None:
    project.zora("tenants", "add", "Demo")
    said = project.zora("demo", status=1)
    assert said == "error: the slug 'demo' is that of another tenant\n"
