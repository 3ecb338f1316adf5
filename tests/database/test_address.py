"""A PostgreSQL URL is read as people write it, or refused in one line without any piece of its password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Server
from zora_core.database.postgres import connect
from zora_core.database_url import CONNECT_SECONDS, read_address
from zora_core.errors import ConfigurationError, DatabaseUnavailable
from zora_core.journal.keys import Remembered
from zora_core.settings import Settings, load_settings


@pytest.mark.parametrize(
    "rest",
    [
        "u:pa#ssWord9@127.0.0.1:5999/db",
        "u:pa/ssWord9@127.0.0.1:5999/db",
        "u:pa?ssWord9@127.0.0.1:5999/db",
        "u:pa[ssWord9@127.0.0.1:5999/db",
        "u:pa]ssWord9@127.0.0.1:5999/db",
        "u:pa[ss]Word9@127.0.0.1:5999/db",
        "u:p@ssWord9@127.0.0.1:5999/db",
        "u:pa ssWord9@127.0.0.1:5999/db",
        "u:pa\tssWord9@127.0.0.1:5999/db",
        "u:12/34?ss=Word9@127.0.0.1/db",
        "u:ssWord9@::1:5999/db",
        "u:ssWord9@127.0.0.1:abc/db",
        "u:ssWord9@127.0.0.1:99999/db",
        "u:ssWord9@127.0.0.1:0/db",
        "u:ssWord9@h1,,h2/db",
        "u:ssWord9@" + 70 * "h" + ".example/db",
        "u:ssWord9@h/db?sslmode",
        "u:ssWord9@h/db?port=x",
        "u:ssWord9@h/db#part",
        "u:ssWord9",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(rest: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"DATABASE_URL": f"postgresql://{rest}"})
    said = str(caught.value)
    assert said.startswith("DATABASE_URL cannot be read, ")
    assert "special characters of the password must be percent-encoded (# is %23, " in said
    assert "\n" not in said
    for piece in ("ssWord", "Word9", "12", "34"):
        assert piece not in said.replace("%23", "").replace("65535", "")


@pytest.mark.parametrize(
    "url", ["ssWord9://h", "ssWord9@h/db", "mysql://u:ssWord9@h/db", "postgresql+asyncpg://u:ssWord9@h", "u:ssWord9"]
)
def test_another_scheme_is_refused_without_any_part_of_the_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL must begin with postgresql://") as caught:
        load_settings({"DATABASE_URL": url})
    assert "ssWord" not in str(caught.value)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=8, max_size=20))
def test_whatever_a_password_is_no_piece_of_it_is_said(password: str) -> None:
    for url in (f"postgresql://u:{password}@h:5432/db", f"postgresql://h/db?password={password}"):
        try:
            address = read_address(url)
        except ConfigurationError as error:
            said = str(error)
            assert password not in said
            assert password[:6] not in said
            assert password[-6:] not in said
        else:
            assert password not in repr(address)
    encoded = read_address(f"postgresql://u:{quote(password, safe='')}@h:5432/db?")
    assert encoded.hosts == (("h", 5432),)


@pytest.mark.parametrize(
    "rest",
    [
        "postgres:[YOUR-PASSWORD]@db.x.supabase.co:5432/postgres",
        "postgres:%5BYOUR-PASSWORD%5D@db.x.supabase.co:5432/postgres",
        "postgres:<password>@h/db",
        "postgres:YOUR_PASSWORD@h/db",
        "postgres.[YOUR-PROJECT-REF]:secret@h/db",
    ],
)
def test_a_placeholder_that_was_left_is_named(rest: str) -> None:
    with pytest.raises(ConfigurationError, match=r"still holds a placeholder such as .YOUR-PASSWORD.: replace it"):
        load_settings({"DATABASE_URL": f"postgresql://{rest}"})


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("sslmode=require&channel_binding=require", "?sslmode=require"),
        ("pgbouncer=true&connection_limit=1&pool_timeout=0&socket_timeout=3", ""),
        ("connect_timeout=5", ""),
        ("schema=public", ""),
        ("keepalives=1&keepalives_idle=30&sslsni=1&gssencmode=disable&load_balance_hosts=random", ""),
        ("ssl=true", "?sslmode=require"),
        ("options=endpoint%3Dep-1&application_name=a+b", "?options=endpoint%3Dep-1&application_name=a%2Bb"),
        ("sslmode=verify-full&sslrootcert=/a%20b", "?sslmode=verify-full&sslrootcert=%2Fa%20b"),
    ],
)
def test_parameters_of_other_clients_are_dropped_and_the_drivers_are_kept(query: str, kept: str) -> None:
    assert read_address(f"postgresql://u:p@h/db?{query}").url == f"postgresql://u:p@h/db{kept}"


def test_the_time_to_connect_is_honoured() -> None:
    assert read_address("postgresql://h/db?connect_timeout=5").connect_seconds == 5
    for endless in ("", "?connect_timeout=0"):
        assert read_address(f"postgresql://h/db{endless}").connect_seconds == CONNECT_SECONDS
    with pytest.raises(ConfigurationError, match="connect_timeout in DATABASE_URL must be a number of seconds"):
        read_address("postgresql://h/db?connect_timeout=soon")


@pytest.mark.parametrize("query", ["schema=app", "hostaddr=10.0.0.1", "require_auth=scram-sha-256", "sslcrldir=/x"])
def test_parameters_that_would_mean_something_else_are_refused_by_name(query: str) -> None:
    name = query.partition("=")[0]
    with pytest.raises(ConfigurationError, match=f"the parameter {name} in DATABASE_URL is not supported: remove it"):
        read_address(f"postgresql://h/db?{query}")


def test_prismas_parameter_for_another_schema_points_to_zora_schema() -> None:
    with pytest.raises(ConfigurationError, match="remove it, and set ZORA_SCHEMA"):
        read_address("postgresql://h/db?schema=app")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@h1:5433,h2/db", (("h1", 5433), ("h2", 5432))),
        ("postgresql://u:p@[::1]:5433,h2:5/db", (("[::1]", 5433), ("h2", 5))),
        ("postgresql:///db?host=h1,h2&port=1,2", (("h1", 1), ("h2", 2))),
        ("postgresql:///db?host=h1,h2&port=6", (("h1", 6), ("h2", 6))),
        ("postgresql://u@/db?host=/run/x&port=6", (("/run/x", 6),)),
        ("postgresql://%2Frun%2Fx/db", (("/run/x", 5432),)),
    ],
)
def test_hosts_are_read_and_of_several_the_primary_is_wanted(url: str, hosts: tuple[tuple[str, int], ...]) -> None:
    address = read_address(url)
    assert address.hosts == hosts
    assert ("target_session_attrs=primary" in address.url) == (len(hosts) > 1)


def test_the_journal_of_a_database_on_several_hosts_has_one_place(tmp_path: Path) -> None:
    tenant = uuid4()

    def place(url: str) -> Path:
        return Remembered(Settings(home=tmp_path, database_url=url), tenant).path

    assert place("postgresql://u:p@h1:5433,h2/db") == place("postgresql://v:q@H2:5432,h1:5433/db?sslmode=require")
    assert place("postgresql://h1,h2/db") != place("postgresql://h1/db")
    assert place("postgresql://u:p@h1/db") == place("postgresql://v@h1:5432/db"), "as before"


async def test_a_url_of_prisma_or_neon_connects(server: Server) -> None:
    await server.emptied()
    for more in ("schema=public", "channel_binding=prefer", "pgbouncer=true&connection_limit=1", "connect_timeout=5"):
        database = await connect(f"{server.database_url('shared')}&{more}")
        await database.call("zora_now")
        await database.close()


async def test_a_parameter_that_the_server_does_not_know_is_a_mistake_of_the_url(server: Server) -> None:
    for more in ("no_such_thing=1", "statement_timeout=soon", "sslmode=perhaps", "block_size=5"):
        with pytest.raises(ConfigurationError, match="check the parameters of DATABASE_URL"):
            await connect(f"{server.database_url('shared')}&{more}")


@pytest.mark.parametrize("parameter", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
async def test_a_file_that_is_missing_is_named(parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=f"{parameter} .* names /nope.crt, which cannot be used .No such file"):
        await connect(f"postgresql://u:p@127.0.0.1:1/db?sslmode=verify-full&{parameter}=/nope.crt")
    monkeypatch.setenv(f"PG{parameter.upper()}", "/nope.crt")
    with pytest.raises(ConfigurationError, match=f"{parameter} .* names /nope.crt"):
        await connect("postgresql://u:p@127.0.0.1:1/db?sslmode=verify-full")


async def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "root.crt"
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"root.crt, which cannot be used \(it holds no certificate\)"):
        await connect(f"postgresql://u:p@127.0.0.1:1/db?sslmode=verify-full&sslrootcert={file}")


async def test_the_machines_certificates_are_called_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatabaseUnavailable, match="the database cannot be reached"):
        await connect("postgresql://u:p@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=system")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="this machine's certificates with sslrootcert=system"):
        await connect("postgresql://u:p@127.0.0.1:1/db?sslmode=verify-full")
