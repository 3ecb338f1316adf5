"""Reading a PostgreSQL URL: what is wrong with it in one line, without any part of it that may belong to a password.

Everything that is refused here would reach the driver or the server as something else than was meant: a `#` in a
password, for example, makes the rest of the URL a fragment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlencode

from zora_core.errors import ConfigurationError

CONNECT_SECONDS = 10.0

_SPECIAL = (
    "it is postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and special characters of the password must be "
    "percent-encoded (# is %23, / is %2F, ? is %3F, @ is %40, : is %3A, [ is %5B, ] is %5D, % is %25, a space is %20)"
)
_PARTS = re.compile(r"postgres(?:ql)?://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?", re.DOTALL)
_HOST = re.compile(r"(?P<name>\[[0-9A-Za-z:.%]+\]|[^:\[\]]+)(?::(?P<port>[0-9]*))?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_PLACEHOLDER = re.compile(
    r"[\[<{][^\]>}]*(?:your|password|placeholder)[^\]>}]*[\]>}]|:your[-_]?password@", re.IGNORECASE
)

# Parameters of other clients that change nothing for us, or that have an equivalent of ours.
_DROPPED = frozenset(
    {
        "channel_binding", "fallback_application_name", "gssencmode", "keepalives", "keepalives_count",
        "keepalives_idle", "keepalives_interval", "load_balance_hosts", "sslcertmode", "sslcompression", "sslsni",
        "tcp_user_timeout",  # libpq
        "connection_limit", "pgbouncer", "pool_timeout", "socket_timeout", "statement_cache_size",  # Prisma
        "pool_max_conns", "supa", "uselibpqcompat", "workaround",  # pgx, Supabase's and Vercel's integrations
    }
)  # fmt: skip
# They change what a connection means, and the driver does not know them.
_UNSUPPORTED = frozenset({"hostaddr", "replication", "require_auth", "requirepeer", "sslcrldir"})
_FILES = {
    "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Address:
    """A PostgreSQL URL that was read: for the driver, and for those who want to know where the server is."""

    url: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...]
    """Names and ports; a folder for a socket."""
    path: str
    connect_seconds: float
    files: Mapping[str, str]
    """Files for TLS by the parameter that names them."""
    ignored: tuple[str, ...] = ()
    """Parameters that a person should know to have no effect here."""


def read_address(url: str, name: str = "DATABASE_URL", environment: Mapping[str, str] | None = None) -> Address:
    """Read a URL that the variable or option `name` holds; raises `ConfigurationError` saying what is wrong.

    Parameters that only other clients understand are dropped; those that would change the meaning are refused.
    """
    if not url.startswith(("postgres://", "postgresql://")):
        raise ConfigurationError(
            f"{name} must begin with postgresql://, as in postgresql://user:password@host:5432/database"
        )
    if _PLACEHOLDER.search(unquote(url)):
        raise ConfigurationError(
            f"{name} still holds a placeholder such as [YOUR-PASSWORD]: replace it, brackets included, with the value"
        )
    parts = _PARTS.fullmatch(url)
    if parts is None or not url.isprintable() or " " in url or url.count("@") > 1:
        raise _unreadable(name, "a character is not allowed where it stands")
    authority, path, query = parts["authority"], parts["path"] or "", parts["query"] or ""
    if "@" in path or "@" in query:
        raise _unreadable(name, "a character is not allowed where it stands")
    login, at, hosts = authority.rpartition("@")
    if any(bracket in login for bracket in "[]"):
        raise _unreadable(name, "a character is not allowed where it stands")
    parameters = _parameters(query, name)
    address_hosts = _hosts(hosts, parameters, name)
    seconds = parameters.pop("connect_timeout", "0")
    if not seconds.isdecimal():
        raise ConfigurationError(f"connect_timeout in {name} must be a number of seconds")
    secure = parameters.pop("ssl", "").lower()
    if secure in ("1", "true", "require"):  # as Node's clients write it
        parameters.setdefault("sslmode", "require")
    files = {
        parameter: value
        for parameter, variable in _FILES.items()
        if (value := parameters.get(parameter) or (environment or {}).get(variable))
    }
    if len(address_hosts) > 1:  # a standby could only be read
        parameters.setdefault("target_session_attrs", "primary")
    return Address(
        url=f"postgresql://{login}{at}{hosts}{path}?{urlencode(parameters, quote_via=quote)}".removesuffix("?"),
        hosts=address_hosts,
        path=path,
        connect_seconds=float(seconds) or CONNECT_SECONDS,
        files=files,
        ignored=("schema",) if "schema=public" in query.split("&") else (),
    )


def _parameters(query: str, name: str) -> dict[str, str]:
    """The parameters after the question mark, for the driver; a plus sign is one, as for libpq."""
    parameters: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        parameter, equals, value = pair.partition("=")
        if not equals or not _NAME.fullmatch(parameter):
            raise _unreadable(name, "what follows its question mark is not a list of parameters")
        parameters[parameter] = unquote(value)
    if parameters.get("gssencmode") == "require":
        raise ConfigurationError(f"gssencmode=require in {name} is not supported: use sslmode=require")
    if parameters.get("schema") == "public":  # Prisma's default, and ours
        del parameters["schema"]
    if "schema" in parameters:
        raise ConfigurationError(f"the parameter schema in {name} is not supported: remove it, and set ZORA_SCHEMA")
    for parameter in sorted(_UNSUPPORTED & parameters.keys()):
        raise ConfigurationError(f"the parameter {parameter} in {name} is not supported: remove it")
    return {parameter: value for parameter, value in parameters.items() if parameter not in _DROPPED}


def _hosts(authority: str, parameters: Mapping[str, str], name: str) -> tuple[tuple[str, int], ...]:
    ports = parameters.get("port", "").split(",")
    if any(port and not _is_port(port) for port in ports):
        raise _unreadable(name, "its port is not a number from 1 to 65535")
    if not authority:
        named = [host for host in parameters.get("host", "").split(",") if host]
        ports = ports * len(named) if len(ports) == 1 else ports
        if named and len(ports) != len(named):
            raise _unreadable(name, "it has not as many ports as hosts")
        return tuple((host, int(port or 5432)) for host, port in zip(named, ports, strict=False))
    hosts = []
    for given in authority.split(","):
        found = _HOST.fullmatch(given)
        if found is None:
            raise _unreadable(name, "its host is not a name or an address (an IPv6 address stands in brackets)")
        if found["port"] and not _is_port(found["port"]):
            raise _unreadable(name, "its port is not a number from 1 to 65535")
        host = unquote(found["name"])
        if not host.startswith(("/", "[")) and not _is_name(host):
            raise _unreadable(name, "its host is not a name or an address")
        hosts.append((host, int(found["port"] or 5432)))
    return tuple(hosts)


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _unreadable(name: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{name} cannot be read, {reason}: {_SPECIAL}")
