"""Fetching from outside: one policy for every handler (no private addresses, bounded size and time, few redirects)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

import idna

from zora_core.data import load
from zora_core.errors import FetchFailed, InvalidInput

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 3
USER_AGENT = "zora-core"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Whether what a coding makes of a body is undone here; the first three are as good as none.
_CODINGS = {"": False, "identity": False, "none": False, "gzip": True, "x-gzip": True, "deflate": True}
# The interface identifiers of ISATAP (RFC 5214), before the IPv4 address.
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Fetched:
    """An HTTP answer: `status` is the HTTP status, `elapsed_ms` the time to the last byte, `body` at most the cap.

    `certificate_expires_at` is the end of the certificate that `final_url` was served under; None without TLS.
    """

    url: str
    final_url: str
    status: int
    headers: dict[str, str]
    body: bytes
    elapsed_ms: float
    certificate_expires_at: datetime | None = None


async def fetch(
    url: str,
    *,
    method: str = "GET",
    allow_private: bool = False,
    max_bytes: int = 5_000_000,
    timeout_seconds: float = 20,
) -> Fetched:
    """Fetch `url` with GET or HEAD, following at most three redirects.

    Every host is resolved here, every address it has is checked, and the connection goes to a checked address, so that
    a name that changes its mind in between gains nothing. `max_bytes` counts the decoded body and `timeout_seconds`
    covers everything from the first look-up to the last byte. Proxies of the environment are not used: they would
    resolve names on their own.

    Raises `InvalidInput` when the policy refuses the address or the answer, `FetchFailed` when there is no answer.
    """
    import httpx

    if method not in {"GET", "HEAD"}:
        raise InvalidInput(f"cannot fetch {url!r} with method {method!r}: use GET or HEAD")
    started = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_seconds), httpx.AsyncClient(trust_env=False, timeout=None) as client:
            return await _follow(client, url, method, allow_private=allow_private, max_bytes=max_bytes, started=started)
    except TimeoutError as error:
        raise FetchFailed(f"cannot fetch {url!r}: no complete answer within {timeout_seconds:g} seconds") from error
    except httpx.HTTPError as error:
        raise FetchFailed(f"cannot fetch {url!r}: {type(error).__name__}: {error}") from error


async def _follow(
    client: httpx.AsyncClient, url: str, method: str, *, allow_private: bool, max_bytes: int, started: float
) -> Fetched:
    current = url
    for _ in range(MAX_REDIRECTS + 1):
        target = _parse(current)
        addresses = await _resolve(current, target, allow_private)
        response = await _connect(client, method, target, addresses)
        try:
            location = response.headers.get("location", "")
            if response.status_code in _REDIRECTS and location:
                current = urljoin(current, location)
                continue
            certificate_end = _certificate_end(response)
            return Fetched(
                url=url,
                final_url=current,
                status=response.status_code,
                headers=dict(response.headers),
                body=await _read(response, current, max_bytes),
                elapsed_ms=(time.perf_counter() - started) * 1000,
                certificate_expires_at=certificate_end,
            )
        finally:
            await response.aclose()
    raise InvalidInput(f"cannot fetch {url!r}: more than {MAX_REDIRECTS} redirects; give the final address")


def _parse(url: str) -> SplitResult:
    """The parts of an address that the policy lets through."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"cannot fetch {url!r}: {error}; check the address") from error
    if parts.scheme not in {"http", "https"}:
        raise InvalidInput(f"cannot fetch {url!r}: scheme {parts.scheme!r} is not allowed; use http or https")
    if not parts.hostname or port == 0:
        raise InvalidInput(f"cannot fetch {url!r}: it names no host; give an address such as https://example.org/")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(f"cannot fetch {parts.hostname!r}: credentials in the address are not allowed; remove them")
    try:
        return parts if url.isascii() else _ascii(parts)
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidInput(f"cannot fetch {url!r}: the host name is not valid ({error}); check the address") from error


def _ascii(parts: SplitResult) -> SplitResult:
    """The address with an internationalised host name as the name service knows it (IDNA 2008, mapped by UTS 46)."""
    assert parts.hostname is not None
    host = parts.hostname
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode("ascii")
    netloc = f"[{host}]" if ":" in host else host
    path, query = (quote(part, safe="/%:@!$&'()*+,;=-._~?") for part in (parts.path, parts.query))
    return parts._replace(netloc=netloc if parts.port is None else f"{netloc}:{parts.port}", path=path, query=query)


async def _resolve(url: str, target: SplitResult, allow_private: bool) -> list[Address]:
    """Every address of the host; refuses the host if one of them is not public."""
    assert target.hostname is not None
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(target.hostname, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise FetchFailed(f"cannot fetch {url!r}: host {target.hostname!r} is not known ({error})") from error
    addresses = list(dict.fromkeys(ipaddress.ip_address(str(a[4][0]).split("%")[0]) for a in answers))
    refused = next((a for a in addresses if not is_public(a)), None)
    if refused is not None and not allow_private:
        raise InvalidInput(
            f"cannot fetch {url!r}: {target.hostname!r} has the address {refused}, which is not public; "
            "set ZORA_ALLOW_PRIVATE_ADDRESSES=1 to allow addresses of your own network"
        )
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address belongs to a host of the public internet, by the registries and by `ipaddress`.

    IPv6 forms that carry an IPv4 address (mapped, NAT64, ISATAP) are judged by that address.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if any(address in network for network in _networks("v6", "embedding")):
            return is_public(inner)
        if int(address) >> 32 & 0xFFFFFFFF in _ISATAP and not is_public(inner):
            return False
        if address not in ipaddress.ip_network(load("special_addresses")["v6"]["unicast"]):
            return False
    if any(address in network for network in _networks(f"v{address.version}", "refused")):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@cache
def _networks(version: str, kind: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in load("special_addresses")[version][kind])


async def _connect(
    client: httpx.AsyncClient, method: str, target: SplitResult, addresses: list[Address]
) -> httpx.Response:
    """Send the request to the first address that takes it, under the name of the host."""
    import httpx

    assert target.hostname is not None
    headers = {"Host": target.netloc, "User-Agent": USER_AGENT, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    headers["Accept-Encoding"] = "gzip, deflate"
    for place, address in enumerate(addresses, start=1):
        literal = f"[{address}]" if address.version == 6 else str(address)
        netloc = f"{literal}:{target.port}" if target.port else literal
        pinned = urlunsplit((target.scheme, netloc, target.path or "/", target.query, ""))
        request = client.build_request(method, pinned, headers=headers, extensions={"sni_hostname": target.hostname})
        try:
            return await client.send(request, stream=True)
        except httpx.ConnectError:
            if place == len(addresses):
                raise
    raise FetchFailed(f"host {target.hostname!r} has no address")


def _certificate_end(response: httpx.Response) -> datetime | None:
    """The end of the certificate that the connection of `response` was checked with."""
    tls = response.extensions["network_stream"].get_extra_info("ssl_object")
    ends = (tls.getpeercert() or {}).get("notAfter") if tls is not None else None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if ends else None


async def _read(response: httpx.Response, url: str, max_bytes: int) -> bytes:
    """The decoded body, or `InvalidInput` as soon as it is larger than the cap.

    Decoded here, piece by piece within the cap: httpx decodes a whole piece at once, through as many codings as the
    answer names, and 275 bytes of it became 2 GB.
    """
    if response.request.method == "HEAD":
        return b""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in _CODINGS:
        raise InvalidInput(
            f"cannot fetch {url!r}: the answer is encoded as {coding[:60]!r}; only one coding is accepted, "
            "gzip or deflate"
        )
    decoder = _Decoder(url) if _CODINGS[coding] else None
    body = bytearray()
    received = 0
    async for chunk in response.aiter_raw(chunk_size=65_536):
        received += len(chunk)
        body += chunk if decoder is None else decoder.decode(chunk, max_bytes + 1 - len(body))
        if len(body) > max_bytes or received > max_bytes:
            raise InvalidInput(
                f"cannot fetch {url!r}: the answer is larger than {max_bytes:,} bytes; give a smaller page or file"
            )
    if decoder is not None and received:
        decoder.finish()
    return bytes(body)


class _Decoder:
    """Takes gzip (of one or more members), or deflate with or without zlib's header, apart."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stream = zlib.decompressobj(wbits=47)  # gzip or zlib, by the header
        self._first = True

    def decode(self, data: bytes, room: int) -> bytes:
        """What `data` adds to the body, at most `room` bytes."""
        made = bytearray()
        while data and len(made) < room:
            if self._stream.eof:
                if not data.startswith(b"\x1f\x8b"):  # padding after the last member
                    break
                self._stream = zlib.decompressobj(wbits=31)
            try:
                made += self._stream.decompress(data, room - len(made))
            except zlib.error as error:
                if not self._first:
                    raise FetchFailed(
                        f"cannot fetch {self._url!r}: the answer is not well encoded ({error})"
                    ) from error
                self._stream = zlib.decompressobj(wbits=-15)
                self._first = False
                continue
            self._first = False
            data = self._stream.unconsumed_tail or self._stream.unused_data
        return bytes(made)

    def finish(self) -> None:
        """Raise `FetchFailed` when the stream was cut off."""
        if not self._stream.eof:
            raise FetchFailed(f"cannot fetch {self._url!r}: the encoded answer ends too early")
