"""API keys on the command line: made, listed, revoked, and never shown twice."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.cli import test_cli
from tests.cli.test_cli import Zora
from zora_core.api.keys import parse_key

environment, zora = test_cli.environment, test_cli.zora


def sql(zora: Zora, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(zora("db", "url").strip())
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    return asyncio.run(run())


def hash_of(key: str) -> bytes:
    parsed = parse_key(key)
    assert parsed is not None
    return parsed[1]


def state(zora: Zora, prefix: str) -> str:
    (row,) = [row for row in zora.json("keys", "list") if row["prefix"] == prefix]
    return str(row["state"])


def test_a_key_is_made_shown_once_listed_and_revoked(zora: Zora) -> None:
    said = zora("keys", "create", "Grafana", "--user", "Ada@Example.org", "--role", "viewer", "--expires-days", "30")
    (key,) = [line for line in said.splitlines() if line.startswith("zora_")]
    prefix, digest = key[:13], hash_of(key)
    for part in ("“Grafana”", "ada@example.org", "viewer", "until 20", "not shown again", "Authorization: Bearer"):
        assert part in said
    assert [row["hash"] for row in sql(zora, "select hash from api_keys where prefix = $1", prefix)] == [digest]

    listed = zora("keys", "list")
    (line,) = [line for line in listed.splitlines() if prefix in line]
    for part in ("Grafana", "ada@example.org", "viewer", "works"):
        assert part in line
    revoked = zora("keys", "revoke", prefix)
    assert "it stops working within a second" in revoked
    assert state(zora, prefix) == "revoked"
    assert zora("keys", "revoke", prefix) == revoked, "revoking twice is not an error"

    journal = zora("journal", "--category", "config_change")
    assert "API key created: Grafana" in journal
    assert "API key revoked: Grafana" in journal
    secret = key.removeprefix(prefix)
    later = [listed, revoked, journal, zora("keys", "list", "--json"), zora("journal", "--json")]
    assert not any(secret in output or digest.hex() in output for output in later)


def test_json_carries_the_key_and_nothing_else_on_stdout(zora: Zora) -> None:
    made = zora.json("keys", "create", "ci", "--user", "ci@example.org", "--expires-days", "7")
    assert parse_key(made["key"]) is not None
    assert made["key"].startswith(made["prefix"])
    assert (made["name"], made["email"], made["role"]) == ("ci", "ci@example.org", "member")
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6.9) < left <= timedelta(days=7)
    (listed,) = [row for row in zora.json("keys", "list") if row["id"] == made["id"]]
    assert listed == {
        **{name: value for name, value in made.items() if name != "key"}, "revoked_at": None, "state": "works",
    }  # fmt: skip
    revoked = zora.json("keys", "revoke", made["id"])
    assert (revoked["prefix"], state(zora, made["prefix"])) == (made["prefix"], "revoked")
    assert revoked["revoked_at"] is not None


def test_without_a_user_the_key_is_the_founders_and_never_expires(zora: Zora) -> None:
    made = zora.json("keys", "create", "first")
    assert (made["email"], made["role"], made["expires_at"]) == ("founder@localhost", "founder", None)
    assert zora.json("keys", "create", "second")["email"] == "founder@localhost"
    said = zora("keys", "create", "third")
    assert "until it is revoked" in said
    (line,) = [line for line in zora("keys", "list").splitlines() if "third" in line]
    assert "never" in line


def test_a_known_user_keeps_the_role_and_another_is_refused(zora: Zora) -> None:
    arguments = ("keys", "create", "x", "--user", "bea@example.org")
    zora(*arguments, "--role", "brand_admin")
    assert zora.json(*arguments)["role"] == "brand_admin"
    before = len(zora.json("keys", "list"))
    assert "bea@example.org has the role brand_admin, not founder" in zora(*arguments, "--role", "founder", status=1)
    assert len(zora.json("keys", "list")) == before


def test_an_expired_key_is_listed_as_expired(zora: Zora) -> None:
    prefix = zora.json("keys", "create", "old", "--expires-days", "1")["prefix"]
    sql(zora, "update api_keys set expires_at = now() - interval '1 second' where prefix = $1", prefix)
    assert state(zora, prefix) == "expired"


def test_a_whole_key_revokes_itself_and_is_not_repeated(zora: Zora) -> None:
    made = zora.json("keys", "create", "leaked")
    said = zora("keys", "revoke", made["key"])
    assert made["prefix"] in said
    assert made["key"] not in said
    assert state(zora, made["prefix"]) == "revoked"
    unknown = f"zora_zzzzzzzz_{'A' * 43}"
    said = zora("keys", "revoke", unknown, status=1)
    assert "no API key 'zora_zzzzzzzz'" in said
    assert "A" * 43 not in said


@pytest.mark.parametrize("columns", ["60", "80", "160"])
def test_a_key_stays_on_one_line_and_every_key_is_found_in_the_list(zora: Zora, columns: str) -> None:
    user = f"ada.lovelace.{columns}@example.org"
    said = zora("keys", "create", f"Nightly {columns}", "--user", user, "--expires-days", "90", COLUMNS=columns)
    (key,) = [line for line in said.splitlines() if line.startswith("zora_")]
    assert parse_key(key) is not None
    listed = zora("keys", "list", COLUMNS=columns)
    assert max(len(line) for line in listed.splitlines()) <= int(columns)
    for part in (key[:13], f"Nightly {columns}", user, "member", "works"):
        assert part in listed


def test_a_link_to_sign_in_with_is_made_for_a_user(zora: Zora) -> None:
    said = zora("keys", "link", "--user", "Bea@example.org", "--role", "brand_admin", "--url", "https://zora.example/")
    assert said.startswith("bea@example.org (brand_admin) signs in with it once, within 60 minutes:\n")
    link = said.split()[-1]
    assert link.startswith("https://zora.example/admin/sign-in?link=zora_")
    assert parse_key(link.partition("link=")[2]) is not None
    assert "link" not in zora("keys", "list"), "a link is not a key"
    made = zora.json("keys", "link", "--minutes", "5")
    assert (made["role"], made["minutes"]) == ("founder", 5)
    assert "must begin with http" in zora("keys", "link", "--url", "zora.example", status=2)
    assert "--role needs --user EMAIL" in zora("keys", "link", "--role", "viewer", status=2)
    assert link.partition("link=")[2] not in zora("journal", "--json")


def test_a_name_cannot_change_the_terminal(zora: Zora) -> None:
    assert "printable" in zora("keys", "create", "\x1b[2Jx", status=2)
    zora("keys", "create", "terminal")
    sql(zora, "update api_keys set name = E'\\x1b[2Jx [red]' where name = 'terminal'")
    listed = zora("keys", "list")
    assert "\x1b" not in listed
    assert "[red]" in listed


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("create",), 2, "Missing argument 'NAME'"),
        (("create", "  "), 2, "must have 1 to 200"),
        (("create", "x" * 201), 2, "must have 1 to 200"),
        (("create", "x", "--role", "member"), 2, "--role needs --user EMAIL"),
        (("create", "x", "--user", "a@b.example", "--role", "admin"), 2, "'admin' is not one of"),
        (("create", "x", "--expires-days", "0"), 2, "0 is not in the range"),
        (("create", "x", "--expires-days", "99999999"), 2, "is not in the range"),
        (("create", "x", "--user", "ada"), 1, "'ada' is not an e-mail address"),
        (("create", "x", "--user", ""), 1, "'' is not an e-mail address"),
        (("revoke",), 2, "Missing argument 'KEY'"),
        (("revoke", "zora_abcd1234"), 1, "no API key 'zora_abcd1234': see `zora keys list`"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_makes_no_key(
    zora: Zora, arguments: tuple[str, ...], status: int, message: str
) -> None:
    def everything() -> Any:
        return sql(zora, "select (select count(*) from api_keys), (select count(*) from users)")

    before = everything()
    said = zora("keys", *arguments, status=status)
    assert message in said
    assert "Traceback" not in said
    assert everything() == before


def test_a_tenants_keys_are_its_own(zora: Zora) -> None:
    sql(zora, "insert into tenants (name, slug) values ('Keyless', 'keyless') on conflict do nothing")
    prefix = zora.json("keys", "create", "mine")["prefix"]
    assert json.loads(zora("--tenant", "keyless", "keys", "list", "--json")) == []
    assert "No API keys yet" in zora("--tenant", "keyless", "keys", "list")
    assert "no API key" in zora("--tenant", "keyless", "keys", "revoke", prefix, status=1)
    assert state(zora, prefix) == "works"
