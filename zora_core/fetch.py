"""Fetching from outside: one policy for every handler (no private addresses, bounded size and time, few redirects)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from zora_core.errors import FetchFailed, InvalidInput

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 3
USER_AGENT = "zora-core"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

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
    return parts


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
    """Whether an address belongs to the public internet, looking through IPv6 forms that carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        teredo = address.teredo
        inner = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def _connect(
    client: httpx.AsyncClient, method: str, target: SplitResult, addresses: list[Address]
) -> httpx.Response:
    """Send the request to the first address that takes it, under the name of the host."""
    import httpx

    assert target.hostname is not None
    headers = {"Host": target.netloc, "User-Agent": USER_AGENT, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
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
    """The decoded body, or `InvalidInput` as soon as it is larger than the cap."""
    body = bytearray()
    async for chunk in response.aiter_bytes(chunk_size=65_536):
        body += chunk
        if len(body) > max_bytes:
            raise InvalidInput(
                f"cannot fetch {url!r}: the answer is larger than {max_bytes:,} bytes; give a smaller page or file"
            )
    return bytes(body)
