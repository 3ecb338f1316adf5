"""The environment, read in one place; docs/settings.md describes each variable."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from zora_core.database_url import read_address
from zora_core.errors import ConfigurationError
from zora_core.processes import MEMORY_MB
from zora_core.roots import checked
from zora_core.storable import UNSTORABLE

DEFAULT_TENANT_ID = UUID("00000000-0000-0000-0000-000000000001")

_DEFAULT_PORTS = {("http", "80"), ("https", "443")}  # which browsers leave out
# As browsers send it: lower case, without a path; * would open the API to every site.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Typed settings; `database_url` is None for the embedded database."""

    database_url: str | None = None
    supabase_url: str | None = None
    supabase_service_key: str | None = None
    schema: str = "public"
    tenant_id: UUID = DEFAULT_TENANT_ID
    home: Path
    file_roots: tuple[Path, ...] = ()
    allow_private_addresses: bool = False
    analysis_memory_mb: int = MEMORY_MB
    unknown_type_seconds: float = 600.0
    jwt_secret: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_max_hours: float = 24
    cors_origins: tuple[str, ...] = ()
    journal_key: bytes | None = None

    @property
    def embedded(self) -> bool:
        """Whether the database is the embedded one."""
        return self.database_url is None and self.supabase_url is None

    @property
    def place(self) -> str:
        """The database's location for people, without secrets."""
        if self.supabase_url:
            return f"SUPABASE_URL ({urlsplit(self.supabase_url).hostname})"
        return "the embedded database" if self.embedded else "DATABASE_URL"

    def __repr__(self) -> str:
        """Without the password and the key."""
        where = "embedded" if self.embedded else "supabase" if self.supabase_url else "DATABASE_URL"
        return f"Settings({where}, tenant_id={self.tenant_id}, home={str(self.home)!r})"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; raises `ConfigurationError` naming the variable that is missing or wrong."""
    env = os.environ if environment is None else environment

    def value(name: str) -> str | None:
        text = env.get(name, "").strip() or None
        if text is not None and UNSTORABLE.search(text):
            raise ConfigurationError(f"{name} is not UTF-8 text: set it again")
        return text

    def number(name: str, default: float, wanted: str, fits: Callable[[float], bool]) -> float:
        text = value(name)
        if text is None:
            return default
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not fits(found):
            raise ConfigurationError(f"{name} is {text!r}: set it to {wanted}")
        return found

    url, key = value("SUPABASE_URL"), value("SUPABASE_SERVICE_KEY")
    if bool(url) != bool(key):
        missing, present = ("SUPABASE_SERVICE_KEY", "SUPABASE_URL") if url else ("SUPABASE_URL", "SUPABASE_SERVICE_KEY")
        raise ConfigurationError(f"{present} is set but {missing} is not: set both, or neither")
    tenant = value("ZORA_TENANT_ID")
    if url and not tenant:
        raise ConfigurationError("SUPABASE_URL is set but ZORA_TENANT_ID is not: set it to your tenant's UUID")
    try:
        tenant_id = UUID(tenant) if tenant else DEFAULT_TENANT_ID
    except ValueError as error:
        raise ConfigurationError(f"ZORA_TENANT_ID is {tenant!r}, which is not a UUID") from error
    database_url = value("DATABASE_URL")
    if database_url:
        read_address(database_url)
    roots = value("ZORA_FILE_ROOTS")
    home = _home(value("ZORA_HOME"))
    return Settings(
        database_url=database_url,
        supabase_url=url,
        supabase_service_key=key,
        schema=load_schema(env),
        tenant_id=tenant_id,
        home=home,
        file_roots=checked(filter(None, (roots or "").split(os.pathsep)), home, "ZORA_FILE_ROOTS"),
        allow_private_addresses=value("ZORA_ALLOW_PRIVATE_ADDRESSES") in ("1", "true", "yes"),
        analysis_memory_mb=int(
            number(
                "ZORA_ANALYSIS_MEMORY_MB",
                Settings.analysis_memory_mb,
                "a whole number of megabytes, 128 to 1000000",
                lambda megabytes: megabytes.is_integer() and 128 <= megabytes <= 1_000_000,
            )
        ),
        unknown_type_seconds=number(
            "ZORA_UNKNOWN_TYPE_SECONDS",
            Settings.unknown_type_seconds,
            "a number of seconds above 0, at most a year",
            lambda seconds: 0 < seconds <= 366 * 86_400,
        ),
        jwt_secret=value("ZORA_JWT_SECRET"),
        jwt_issuer=value("ZORA_JWT_ISSUER"),
        jwt_audience=value("ZORA_JWT_AUDIENCE"),
        jwt_max_hours=number(
            "ZORA_JWT_MAX_HOURS",
            Settings.jwt_max_hours,
            "a number of hours above 0",
            lambda hours: 0 < hours < math.inf,
        ),
        cors_origins=_origins(value("ZORA_CORS_ORIGINS")),
        journal_key=_journal_key(value("ZORA_JOURNAL_KEY")),
    )


def _origins(text: str | None) -> tuple[str, ...]:
    """The origins that a comma-separated list names."""
    origins = tuple(origin.strip() for origin in (text or "").split(",") if origin.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin) or (origin.partition("://")[0], origin.rpartition(":")[2]) in _DEFAULT_PORTS:
            raise ConfigurationError(
                f"ZORA_CORS_ORIGINS: {origin!r} is not an origin: give scheme, host and port without a path, and not "
                "the default port, such as https://app.example.org or http://localhost:5173; separate several by commas"
            )
    return origins


def load_schema(environment: Mapping[str, str] | None = None) -> str:
    """Read only ZORA_SCHEMA, for commands without a database; raises `ConfigurationError` for an invalid name."""
    env = os.environ if environment is None else environment
    schema = env.get("ZORA_SCHEMA", "").strip() or "public"
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema) or schema.startswith("pg_") or schema == "information_schema":
        raise ConfigurationError(
            f"ZORA_SCHEMA is {schema!r}: it must be the name of a schema, 1-63 lowercase letters, digits and "
            "underscores, not beginning with a digit or pg_; for example zora"
        )
    return schema


EXAMPLES = "{examples}"  # at the beginning of a path: the folder below


def examples() -> Path:
    """The folder of the example site and tenant: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    packaged = package / "examples"
    return packaged if packaged.is_dir() else package.parent / "examples"


def _journal_key(configured: str | None) -> bytes | None:
    if configured is None:
        return None
    import base64

    try:
        key = base64.b64decode(configured, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigurationError(
            "ZORA_JOURNAL_KEY is not 32 bytes in base64: make one with `openssl rand -base64 32`, or copy the file "
            "journal/key in the ZORA_HOME of the machine that seals"
        )
    return key


def _home(configured: str | None) -> Path:
    if configured:
        return Path(configured).expanduser().resolve()
    import platformdirs

    return platformdirs.user_data_path("zora")
