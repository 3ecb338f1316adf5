"""A local HTTPS server with a certificate of its own making, and the trust in it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REQUEST = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
subjectAltName = DNS:localhost, IP:127.0.0.1
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
subjectKeyIdentifier = hash
"""


class HttpsServer(ThreadingHTTPServer):
    """Counts the connections that it takes."""

    connections = 0

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses the certificate is no news."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_port}"


def make_certificate(folder: Path, days: int) -> Path:
    """A file with the certificate of localhost for so many days, and its key; skips the test without `openssl`."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH to make a certificate with")
    request, key, certificate = (folder / name for name in ("request.cnf", "key.pem", "certificate.pem"))
    request.write_text(REQUEST)
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(days)]
    files = ["-config", str(request), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *kind, *files], check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


@contextmanager
def https_server(certificate: Path, handler: type[BaseHTTPRequestHandler]) -> Iterator[HttpsServer]:
    server = HttpsServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trust(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
    """Make HTTP clients trust only `certificate`."""
    monkeypatch.setattr("certifi.where", lambda: str(certificate))
