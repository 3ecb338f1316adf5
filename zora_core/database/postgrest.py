"""Calling the database's functions over HTTP: a Supabase project, or any server that speaks PostgREST's `rpc`.

Every request is `POST /rest/v1/rpc/call_functions`, which calls the functions that its body names; why they are not
called under their own addresses is told in docs/supabase.md. A request that may have been lost is sent again with the
same id, under which the database carries it out once.

httpx carries the requests and not the `postgrest` client: its errors keep neither an answer's status nor its headers
when the body is JSON, so that 429 and what gateways say could not be told from what the database says.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
from pydantic_core import from_json

from zora_core import __version__
from zora_core.database import schema
from zora_core.database.calls_as_json import as_json, from_answer, written
from zora_core.database.database import ANSWER_SECONDS, API_ROLE, Call, Database, Pace, Row
from zora_core.database.sqlstate import Remedies, error_for, lasting
from zora_core.database.unreadable import read_json
from zora_core.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DataRejected,
    RequestTooLarge,
    SchemaError,
    TooMuchAtOnce,
    UnexpectedAnswer,
    ZoraError,
)

if TYPE_CHECKING:
    from zora_core.settings import Settings

CONNECT_SECONDS = 10.0
ATTEMPTS = 6
FIRST_SECONDS, MAX_SECONDS = 0.2, 5.0  # between attempts; doubled, with jitter
KEEP_ALIVE_SECONDS = 60.0

RUN_SCRIPT = "run the output of `zora schema --supabase` in the project's SQL editor (docs/supabase.md)"

# Statuses of gateways and proxies that say nothing about the request: it may work a moment later. 521 to 530 are
# Cloudflare's, in front of Supabase.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 530, 544})

_REMEDIES = Remedies(
    login="look at the project's authenticator role",
    rights=(
        "the key in SUPABASE_SERVICE_KEY may not do this. It must be the secret or service_role key, not the public "
        f"one; if it is, {RUN_SCRIPT}, and look at its verdict"
    ),
    schema=(f"{RUN_SCRIPT}. If you have just done so, wait a moment, or run `notify pgrst, 'reload schema'` there"),
)


@dataclass(frozen=True)
class _Failure:
    """An answer that is not a success: the HTTP status, and what the body says in PostgREST's form."""

    status: int
    code: str
    message: str
    details: str | None
    retry_after: float | None
    not_json: str | None
    """The type of what a success holds instead of JSON."""


class PostgrestDatabase(Database):
    """A project's functions over HTTP. A request that is lost, or refused for the moment, is sent again."""

    # A round trip to Supabase takes some 30 to 200 ms, and calls are counted.
    pace = Pace(ahead=250, linger_seconds=0.5, progress_seconds=2.0, look_seconds=2.0)

    def __init__(self, client: httpx.AsyncClient, *, restricted: bool = False, shared: bool = False) -> None:
        """Use an open client; `connect` makes one. One that is `shared` is closed by somebody else."""
        self._client = client
        self._restricted = restricted
        self._shared = shared

    @property
    def notifies(self) -> bool:
        """HTTP has no notifications."""
        return False

    async def call(self, function: str, /, **arguments: Any) -> list[Row]:
        """See `Database.call`; tried again for some seconds, and carried out once."""
        (rows,) = await self.batch([(function, arguments)])
        return rows

    async def batch(self, calls: Sequence[Call]) -> list[list[Row]]:
        """See `Database.batch`: one request, one transaction."""
        body = _body(calls, self._restricted)
        answer = await self._post("call_functions", body)
        try:
            results = from_answer(answer, len(calls))
        except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError) as error:
            problem = ConfigurationError(f"{self._where} answers, but not as the function call_functions does")
            raise lasting(problem, self.answered) from error
        self.answered = True
        return results

    async def read(self, query: str, tenant_id: UUID, /, **arguments: Any) -> list[Row]:
        """See `Database.read`. Over HTTP there is nothing but the database's functions to ask."""
        return await self.call(query, tenant_id=tenant_id, **arguments)

    async def restricted(self, *, max_connections: int = 8) -> PostgrestDatabase:
        """See `Database.restricted`; the role is taken on by the function that makes the calls."""
        database = PostgrestDatabase(self._client, restricted=True, shared=True)
        database.outage = self.outage
        try:
            await database.call("zora_now")
        except (ConfigurationError, DataRejected) as error:  # it may not act as the role, or there is none
            raise ConfigurationError(
                f"the database role {API_ROLE} is missing, or authenticator may not act as it: {RUN_SCRIPT}, and look "
                f"at its warnings ({error})"
            ) from error
        return database

    def listening(self, channel: str, callback: Callable[[str], None]) -> AbstractAsyncContextManager[asyncio.Event]:
        """There is none: see `notifies`."""
        raise NotImplementedError("over HTTP there are no notifications")

    async def migrate(self) -> bool:
        """Raises `ConfigurationError`, unless there is nothing to do: over HTTP only functions can be called."""
        try:
            schema.refuse_newer(await self.check_schema())
            if lacking := await self.missing_objects():
                raise SchemaError(schema.explain_missing(lacking, remedy=RUN_SCRIPT))
        except SchemaError as error:
            raise ConfigurationError(f"over HTTP functions can be called, but no tables made; {error}") from error
        return False

    async def check_schema(self) -> schema.Installed:
        """See `Database.check_schema`."""
        said = await self.call("installed_schema")  # nothing, after a restore of the schema without its rows
        installed = schema.Installed.of(said[0]) if said else schema.Installed()
        schema.compare(installed, remedy=RUN_SCRIPT)
        return installed

    async def close(self) -> None:
        """Close the connections."""
        if not self._shared:
            await self._client.aclose()

    @property
    def _where(self) -> str:
        return f"SUPABASE_URL ({self._client.base_url.host})"

    def _masked(self, text: str) -> str:
        """Without the key, in case that somebody shows us what we sent."""
        return text.replace(self._client.headers["apikey"], "…")

    async def _post(self, function: str, body: bytes) -> Any:
        """The answer's JSON. What may pass is tried again; everything else, and the last failure, is raised."""
        delay = FIRST_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            pause: float | None = None
            failed: ZoraError
            try:
                async with asyncio.timeout(ANSWER_SECONDS + CONNECT_SECONDS):
                    response = await self._client.post(f"rpc/{function}", content=body)
            except (httpx.RequestError, TimeoutError) as error:  # on the way, or an answer that cannot be unpacked
                failed = DatabaseUnavailable(f"{self._where} cannot be reached: {_said(error)}")
                failed.__cause__ = error
            else:
                answer = _json(response)
                if response.is_success and answer is not _NOT_JSON and not _is_error(answer):
                    return answer
                failure = _failure(response, self._masked)
                failed, pause = self._error(failure), failure.retry_after
                # What the database itself says unexpectedly, it says again at once; loops ask later.
                lasts = isinstance(failed, UnexpectedAnswer) and _is_sqlstate(failure.code)
                if not isinstance(failed, DatabaseUnavailable) or isinstance(failed, TooMuchAtOnce) or lasts:
                    raise failed
            if attempt == ATTEMPTS:
                raise failed
            await asyncio.sleep(min(max(pause or 0.0, delay * random.uniform(0.5, 1.0)), 2 * MAX_SECONDS))
            delay = min(delay * 2, MAX_SECONDS)
        raise AssertionError("unreachable")

    def _error(self, failure: _Failure) -> ZoraError:
        """Ours for theirs, with the remedy. DETAIL stays out of it: it quotes whole rows.

        A code in the body comes from the database or from PostgREST and counts more than the status.
        """
        said, code, status = failure.message, failure.code, failure.status
        problem: ZoraError
        if failure.not_json is not None:
            problem = ConfigurationError(
                f"the server at {self._where} is not PostgREST: it sent {failure.not_json!r} instead of JSON; set "
                "SUPABASE_URL to the project's URL, https://REF.supabase.co"
            )
            return lasting(problem, self.answered)
        if status == 413:
            return RequestTooLarge(f"{self._where} refuses a request of this size: {said}")
        if status == 429 or (not code and status in _PASSING):
            note = f"status {status}{', ' + code if code else ''}"
            return DatabaseUnavailable(f"{self._where} cannot serve this at the moment: {said} ({note})")
        if code == "PGRST106":
            problem = ConfigurationError(
                f"the project's API does not show the schema {self._client.headers['content-profile']}: enable the "
                "Data API and add the schema to “Exposed schemas” in the dashboard (Integrations, Data API, Settings)"
            )
        elif code.startswith("PGRST3") or (status == 401 and not _is_sqlstate(code)):
            problem = ConfigurationError(
                f"the project refuses the key in SUPABASE_SERVICE_KEY: {said}. Copy the secret key (sb_secret_…) or "
                "the service_role key of this very project (Project Settings, API Keys)"
            )
        elif code == "25006":
            return DatabaseUnavailable(
                f"the database is read-only ({said}): Supabase makes it so while the disk is over 95 % full "
                "(dashboard: Database, Settings), and a read replica always is"
            )
        elif code:
            return error_for(code, said, _REMEDIES, answered=self.answered, constraint=failure.details is not None)
        elif status == 402:
            problem = ConfigurationError(
                f"the project is restricted ({said}): its organization has exceeded a quota or owes a bill; see Usage "
                "and Billing in Supabase's dashboard"
            )
        elif status == 540:
            problem = ConfigurationError("the project is paused: resume it in Supabase's dashboard")
        else:
            problem = ConfigurationError(
                f"{self._where} answers with status {status} ({said}): is SUPABASE_URL the project's URL, "
                "https://REF.supabase.co, and does nothing stand in between?"
            )
        return lasting(problem, self.answered)


async def connect(settings: Settings, *, max_connections: int = 8) -> PostgrestDatabase:
    """A way to the project that the settings name; nothing is sent yet.

    Raises `ConfigurationError` for a URL or a key that cannot be right.
    """
    url, key = settings.supabase_url, settings.supabase_service_key
    if url is None or key is None:
        raise ConfigurationError("SUPABASE_URL and SUPABASE_SERVICE_KEY are needed")
    try:
        client = httpx.AsyncClient(
            base_url=_base_url(url),
            headers={
                "content-type": "application/json",
                "content-profile": settings.schema,  # also where another schema is the first of those that are exposed
                "user-agent": f"zora/{__version__}",
                **_credentials(key),
            },
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
            ),
            follow_redirects=False,  # the key goes nowhere else
        )
    except (ImportError, ValueError, httpx.InvalidURL, OSError) as error:  # what the environment says of the way there
        raise ConfigurationError(_unusable_environment(error)) from error
    return PostgrestDatabase(client)


def _unusable_environment(error: Exception) -> str:
    """Name the variables that httpx could not follow. A proxy's address may hold a password, and is not shown."""
    if isinstance(error, OSError):
        return f"cannot read the certificates that SSL_CERT_FILE names ({error.strerror or error}): correct or unset it"
    found = " or ".join(name for name in os.environ if name.upper() in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"))
    what = "SOCKS proxies are not supported" if isinstance(error, ImportError) else "it is not a valid proxy address"
    return f"cannot use the proxy in {found}: {what}. Use http://HOST:PORT, or unset it"


def _base_url(url: str) -> str:
    """Where `rpc/` is. Raises `ConfigurationError` for what is not an address, or would carry the key unencrypted."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        possible = url.isprintable() and " " not in url and "@" not in parts.netloc
    except ValueError:
        possible = False
    if not possible or parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ConfigurationError(
            "SUPABASE_URL must be an address such as https://REF.supabase.co, with nothing after it: Project Settings, "
            "Data API"
        )
    if parts.scheme == "http" and not _is_near(host):
        raise ConfigurationError(
            f"SUPABASE_URL begins with http://, so that the service key would travel to {host} unencrypted: use https://"
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith('/rest/v1') else path + '/rest/v1'}/"


def _is_near(host: str) -> bool:
    """Whether a host is this machine, a private address or a name without a domain, such as a container's."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        # An address may also be written as one number.
        named = "." not in host and host[0].isalpha()
        return named or host.endswith((".localhost", ".local", ".internal"))


def _credentials(key: str) -> Mapping[str, str]:
    """The headers of a secret key (`sb_secret_…`), which is not a JWT, or of a legacy one, which is also the token.

    Raises `ConfigurationError` for a key that may do nothing.
    """
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("SUPABASE_SERVICE_KEY holds a character that no key has: copy it again")
    if key.startswith("sb_"):
        if key.startswith("sb_publishable_"):
            raise ConfigurationError(
                "SUPABASE_SERVICE_KEY is the public key (sb_publishable_…), which may do nothing here: use the secret "
                "one (sb_secret_…)"
            )
        return {"apikey": key}
    if _role(key) == "anon":
        raise ConfigurationError(
            "SUPABASE_SERVICE_KEY is the public key (anon), which may do nothing here: use the service_role key"
        )
    return {"apikey": key, "authorization": f"Bearer {key}"}


def _role(token: str) -> str | None:
    """The role that a JWT claims, unverified; None when it is not a JWT."""
    try:
        payload = token.split(".")[1]
        claims = from_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return None
    return claims.get("role") if isinstance(claims, dict) else None


def _body(calls: Sequence[Call], restricted: bool) -> bytes:
    """A request's JSON. Raises `DataRejected` for what JSON cannot say; what is not a number the database refuses."""
    return written({"p_calls": as_json(calls), "p_request_id": uuid4(), "p_restricted": restricted})


_NOT_JSON = object()


def _json(response: httpx.Response) -> Any:
    """The JSON of an answer, or `_NOT_JSON`."""
    try:
        return read_json(response.content)
    except ValueError:
        return _NOT_JSON


def _is_error(answer: Any) -> bool:
    """Whether an answer is one of PostgREST's errors, whatever its status: call_functions answers with a list."""
    return isinstance(answer, dict) and isinstance(answer.get("code"), str)


def _failure(response: httpx.Response, masked: Callable[[str], str]) -> _Failure:
    said = _json(response)
    said = said if isinstance(said, dict) else {}

    def text(name: str) -> str | None:
        value = said.get(name)
        return value if isinstance(value, str) else None

    return _Failure(
        status=response.status_code,
        code=text("code") or "",
        message=masked(text("message") or text("error") or response.reason_phrase or "no reason given"),
        details=text("details"),
        retry_after=_seconds(response.headers.get("retry-after")),
        not_json=masked(response.headers.get("content-type", "nothing"))
        if response.is_success and not _is_error(said)
        else None,
    )


def _is_sqlstate(code: str) -> bool:
    """Whether a code is the database's own; PostgREST's are longer."""
    return re.fullmatch(r"[0-9A-Z]{5}", code) is not None


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a `Retry-After` in seconds; its form as a date is not used by Supabase."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None


def _said(error: Exception) -> str:
    """httpx leaves the text of many errors empty."""
    return str(error) or type(error).__name__
