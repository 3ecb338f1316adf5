"""The network policy, against a real HTTP server."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.https import https_server, make_certificate, trust
from zora_core.errors import FetchFailed, InvalidInput
from zora_core.fetch import _Decoder, fetch, is_public


class Site(BaseHTTPRequestHandler):
    """Pages that each misbehave in one way."""

    protocol_version = "HTTP/1.1"
    stop = threading.Event()
    hosts: list[str]

    def do_GET(self) -> None:
        type(self).hosts.append(self.headers["Host"])
        match self.path.split("?")[0].split("/")[1:]:
            case ["hop", "0"]:
                self.answer(200, b"arrived")
            case ["hop", count]:
                self.answer(302, b"", Location=f"/hop/{int(count) - 1}")
            case ["away"]:
                self.answer(302, b"", Location="file:///etc/passwd")
            case ["big"]:
                self.answer(200, b"x" * 300_000)
            case ["bomb"]:
                self.answer(200, gzip.compress(b"0" * 2_000_000), **{"Content-Encoding": "gzip"})
            case ["nested"]:
                body = gzip.compress(gzip.compress(gzip.compress(b"0" * 10_000_000)))
                self.answer(200, body, **{"Content-Encoding": "gzip, gzip, gzip"})
            case ["encoded", coding]:
                body = {
                    "gzip": gzip.compress(b"hello"), "members": gzip.compress(b"hel") + gzip.compress(b"lo"),
                    "padded": gzip.compress(b"hello") + bytes(9), "cut": gzip.compress(b"hello" * 99)[:-9],
                    "deflate": zlib.compress(b"hello"), "raw": zlib.compress(b"hello")[2:-4], "empty": b"",
                }.get(coding, b"hello")  # fmt: skip
                known = dict.fromkeys(("members", "padded", "cut", "wrong", "empty"), "gzip") | {"raw": "deflate"}
                self.answer(200, body, **{"Content-Encoding": known.get(coding, coding)})
            case ["endless"]:
                self.send_response(200)
                self.end_headers()
                while not self.stop.wait(0.02):
                    self.wfile.write(b".")
            case ["missing"]:
                self.answer(404, b"not here")
            case _:
                self.answer(200, b"hello", **{"Content-Type": "text/plain"})

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.hosts = []
    Site.stop.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_page_is_fetched_with_status_headers_body_and_time(site: str) -> None:
    fetched = await fetch(f"{site}/page", allow_private=True)
    assert (fetched.status, fetched.body, fetched.headers["content-type"]) == (200, b"hello", "text/plain")
    assert fetched.elapsed_ms > 0


async def test_an_error_status_is_an_answer(site: str) -> None:
    assert (await fetch(f"{site}/missing", allow_private=True)).status == 404


async def test_head_fetches_no_body(site: str) -> None:
    assert (await fetch(f"{site}/big", method="HEAD", allow_private=True)).body == b""


async def test_private_addresses_are_refused_before_any_request_and_the_setting_is_named(site: str) -> None:
    with pytest.raises(InvalidInput, match="ZORA_ALLOW_PRIVATE_ADDRESSES=1"):
        await fetch(f"{site}/page")
    assert Site.hosts == []


async def test_a_name_that_resolves_to_a_private_address_is_refused(site: str) -> None:
    with pytest.raises(InvalidInput, match="not public"):
        await fetch(site.replace("127.0.0.1", "localhost"))
    with pytest.raises(InvalidInput, match="not public"):
        await fetch(site.replace("127.0.0.1", "2130706433"))
    assert Site.hosts == []


async def test_the_connection_is_pinned_but_the_host_keeps_its_name(site: str) -> None:
    await fetch(site.replace("127.0.0.1", "localhost"), allow_private=True)
    assert Site.hosts == [site.removeprefix("http://").replace("127.0.0.1", "localhost")]


async def test_the_name_is_looked_up_once_per_request(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    real, looked_up = loop.getaddrinfo, []

    async def counting(host: str, port: int, **options: int) -> object:
        looked_up.append(host)
        return await real(host, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", counting)
    await fetch(site.replace("127.0.0.1", "localhost"), allow_private=True)
    assert [host for host in looked_up if host == "localhost"] == ["localhost"]


@pytest.mark.parametrize("days", [30, 90])
async def test_the_end_of_the_certificate_comes_from_the_connection_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    Site.hosts = []
    certificate = make_certificate(tmp_path, days)
    trust(monkeypatch, certificate)
    with https_server(certificate, Site) as server:
        fetched = await fetch(server.url, allow_private=True)
    assert fetched.certificate_expires_at is not None
    left = fetched.certificate_expires_at - datetime.now(UTC)
    assert timedelta(days=days - 1) < left <= timedelta(days=days)
    assert (fetched.status, server.connections) == (200, 1)


async def test_a_certificate_that_nobody_vouches_for_is_a_failure(tmp_path: Path) -> None:
    with (
        https_server(make_certificate(tmp_path, 30), Site) as server,
        pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        await fetch(server.url, allow_private=True)


async def test_without_tls_there_is_no_certificate(site: str) -> None:
    assert (await fetch(site, allow_private=True)).certificate_expires_at is None


async def test_three_redirects_are_followed_and_a_fourth_is_not(site: str) -> None:
    fetched = await fetch(f"{site}/hop/3", allow_private=True)
    assert (fetched.body, fetched.final_url) == (b"arrived", f"{site}/hop/0")
    with pytest.raises(InvalidInput, match="more than 3 redirects"):
        await fetch(f"{site}/hop/4", allow_private=True)


async def test_a_redirect_is_checked_like_a_first_address(site: str) -> None:
    with pytest.raises(InvalidInput, match="scheme 'file' is not allowed"):
        await fetch(f"{site}/away", allow_private=True)


@pytest.mark.parametrize("path", ["big", "bomb"])
async def test_an_answer_above_the_cap_is_refused_after_decoding(site: str, path: str) -> None:
    with pytest.raises(InvalidInput, match="larger than 100,000 bytes"):
        await fetch(f"{site}/{path}", allow_private=True, max_bytes=100_000)


@pytest.mark.parametrize("coding", ["gzip", "members", "padded", "deflate", "raw", "identity"])
async def test_one_coding_is_undone(site: str, coding: str) -> None:
    assert (await fetch(f"{site}/encoded/{coding}", allow_private=True)).body == b"hello"


async def test_an_empty_encoded_answer_is_empty(site: str) -> None:
    assert (await fetch(f"{site}/encoded/empty", allow_private=True)).body == b""
    assert (await fetch(f"{site}/nested", method="HEAD", allow_private=True)).body == b""


async def test_nested_codings_and_those_that_were_not_asked_for_are_refused(site: str) -> None:
    for path, coding in (("nested", "gzip, gzip, gzip"), ("encoded/br", "br")):
        with pytest.raises(InvalidInput, match=f"encoded as '{coding}'; only one coding is accepted, gzip or deflate"):
            await fetch(f"{site}/{path}", allow_private=True)


@pytest.mark.parametrize("coding", ["cut", "wrong"])
async def test_an_answer_that_is_not_what_it_says_is_a_failure(site: str, coding: str) -> None:
    with pytest.raises(FetchFailed, match="encoded"):
        await fetch(f"{site}/encoded/{coding}", allow_private=True)


def test_a_decoder_never_holds_more_than_its_room() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    tracemalloc.start()
    assert len(_Decoder("u").decode(bomb, 1001)) == 1001
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


async def test_internationalised_names_are_looked_up_and_sent_as_the_name_service_knows_them(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    real, looked_up = loop.getaddrinfo, []

    async def local(host: str, port: int, **options: int) -> object:
        looked_up.append(host)
        return await real("127.0.0.1", port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", local)
    port = site.rsplit(":", 1)[1]
    for name, known in (("Bücher.example", "xn--bcher-kva.example"), ("faß.example", "xn--fa-hia.example"),
                        ("例え。テスト", "xn--r8jz45g.xn--zckzah"), ("ＥＸＡＭＰＬＥ.com", "example.com")):  # fmt: skip
        fetched = await fetch(f"http://{name}:{port}/seite/ü?q=ä", allow_private=True)
        assert fetched.body == b"hello"
        assert (looked_up[0], Site.hosts[-1]) == (known, f"{known}:{port}")
        looked_up.clear()


@pytest.mark.parametrize(
    "url", ["http://a\ud800.example/", "http://x/\ud800", "http://a\u2028b.example/", "http://-ü-.example/"]
)
async def test_a_name_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"(host name is not valid|check the address)"):
        await fetch(url)


async def test_digits_of_other_scripts_do_not_hide_an_address() -> None:
    with pytest.raises(InvalidInput, match="not public"):
        await fetch("http://１２７.0.0.1/")


async def test_an_answer_that_never_ends_is_given_up_in_time(site: str) -> None:
    with pytest.raises(FetchFailed, match=r"within 0\.2 seconds"):
        await fetch(f"{site}/endless", allow_private=True, timeout_seconds=0.2)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/", "scheme 'ftp'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("https://", "names no host"),
        ("http://user:secret@example.org/", "credentials"),
        ("http://[::1", "check the address"),
        ("http://example.org:99999/", "check the address"),
        ("not a url", "scheme ''"),
    ],
)
async def test_odd_addresses_are_refused_with_a_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        await fetch(url)


async def test_credentials_are_not_repeated_in_the_message() -> None:
    with pytest.raises(InvalidInput) as caught:
        await fetch("http://user:secret@example.org/")
    assert "secret" not in str(caught.value)


async def test_other_methods_are_refused(site: str) -> None:
    with pytest.raises(InvalidInput, match="GET or HEAD"):
        await fetch(site, method="DELETE", allow_private=True)


async def test_a_closed_port_is_a_failure_that_may_pass(site: str) -> None:
    with pytest.raises(FetchFailed, match="ConnectError"):
        await fetch("http://127.0.0.1:1/", allow_private=True)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fc00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("64:ff9b:1::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2002:5db8:d822::", False),
        ("2001::1", False),
        ("2001:0:5db8:d822::1", False),
        ("2001:2::1", False),
        ("2001:20::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("100::1", False),
        ("fec0::1", False),
        ("feff::1", False),
        ("::7f00:1", False),
        ("::5db8:d822", False),
        ("::ffff:0:7f00:1", False),
        ("2620:4f:8000::1", False),
        ("2606:2800:220:1:0:5efe:7f00:1", False),
        ("2606:2800:220:1:200:5efe:a00:1", False),
        ("2606:2800:220:1:0:5efe:5db8:d822", True),
        ("192.0.0.1", False),
        ("192.0.0.9", False),
        ("192.0.2.1", False),
        ("192.31.196.1", False),
        ("192.52.193.1", False),
        ("192.88.99.1", False),
        ("192.175.48.1", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("9.9.9.9", True),
        ("2a00:1450:4001:800::200e", True),
    ],
)
def test_only_addresses_of_the_public_internet_count_as_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_no_block_that_python_calls_private_is_public() -> None:
    blocks = [
        *ipaddress._IPv4Constants._private_networks,  # type: ignore[attr-defined]
        *ipaddress._IPv6Constants._private_networks,  # type: ignore[attr-defined]
    ]
    assert len(blocks) > 20
    assert [str(block) for block in blocks if is_public(block[0]) or is_public(block[-1])] == []
