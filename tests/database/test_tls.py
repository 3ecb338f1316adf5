"""A server that takes only encrypted connections, and what becomes of a certificate that cannot be trusted."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.https import make_certificate
from tests.servers import SystemServer, system_binaries
from zora_core.database.postgres import connect
from zora_core.errors import DatabaseUnavailable


@pytest.fixture(scope="module")
def certificate(short_tmp: Path) -> Path:
    """A certificate of localhost with its key; the embedded server is built without TLS, the system's has it."""
    if system_binaries() is None:
        pytest.skip("no PostgreSQL installed besides the embedded one")
    file = make_certificate(short_tmp, days=2)
    file.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(file, next(u for u in ("postgres", "nobody") if u in {entry.pw_name for entry in pwd.getpwall()}))
    return file


@pytest.fixture(scope="module")
def address(certificate: Path, short_tmp: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    class TlsServer(SystemServer):
        SETTINGS = (
            *SystemServer.SETTINGS, "listen_addresses=127.0.0.1", f"port={port}", "ssl=on",
            f"ssl_cert_file={certificate}", f"ssl_key_file={certificate}",
        )  # fmt: skip

    server = TlsServer.at(short_tmp / "tls")
    server.start()
    yield f"localhost:{port}"
    server.release()


@pytest.fixture
def server() -> None:
    """These tests run on a server of their own."""


async def test_an_encrypted_connection_is_made_and_its_certificate_checked(address: str, certificate: Path) -> None:
    url = f"postgresql://postgres@{address}/postgres?sslmode=verify-full&sslrootcert={certificate}"
    database = await connect(url)
    try:
        assert await database.migrate()
        async with database._pool.acquire() as connection:
            assert await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    finally:
        await database.close()


async def test_a_certificate_of_somebody_unknown_is_refused(address: str, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, days=2)
    with pytest.raises(DatabaseUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await connect(f"postgresql://postgres@{address}/postgres?sslmode=verify-full&sslrootcert={other}")


async def test_the_machines_certificates_are_used_when_the_url_says_system(
    address: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://postgres@{address}/postgres?sslmode=require&sslrootcert=system"
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path, days=2)))
    with pytest.raises(DatabaseUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await connect(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    await (await connect(url)).close()
