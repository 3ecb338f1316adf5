"""The key that signs blocks, and what this machine remembers of the chain it signed: both outside the database.

The library for Ed25519 takes a moment to load, so that it is loaded where something is signed or verified, and nowhere
else.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from zora_core.database_url import read_address
from zora_core.errors import ConfigurationError
from zora_core.journal.canonical import read_json
from zora_core.private_files import make_private_folder, write_private
from zora_core.settings import Settings
from zora_core.suggested_command import zora_command

SEED_BYTES = 32


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key: 32 random bytes, and the public key that follows from them."""

    seed: bytes = field(repr=False)
    public: bytes

    @classmethod
    def of(cls, seed: bytes) -> SigningKey:
        """The key that these 32 bytes are."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(seed, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())

    def sign(self, text: str) -> bytes:
        """The signature of a text, 64 bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())


def signed_by(public: bytes, text: str, signature: bytes) -> bool:
    """Whether the text was signed with the private key of this public key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text.encode(errors="surrogatepass"))
    except (InvalidSignature, ValueError):
        return False
    return True


def signing_key(settings: Settings) -> SigningKey:
    """The key of the environment, or of this machine's file, which is made when there is none.

    Raises `ConfigurationError` when the file cannot be read or made.
    """
    if settings.journal_key is not None:
        return SigningKey.of(settings.journal_key)
    path = key_file(settings)
    try:
        seed = _read_seed(path)
        if seed is None:
            _make_seed(path)
            seed = _read_seed(path)
    except OSError as error:
        raise ConfigurationError(
            f"the journal's key {path} cannot be read or made ({error.strerror}): set ZORA_JOURNAL_KEY, or ZORA_HOME "
            "to a folder that can be written"
        ) from error
    assert seed is not None
    return SigningKey.of(seed)


def public_key(settings: Settings) -> bytes | None:
    """The public key of this machine, or None when it has no key yet; makes none."""
    if settings.journal_key is not None:
        return SigningKey.of(settings.journal_key).public
    try:
        seed = _read_seed(key_file(settings))
    except OSError:
        return None
    return None if seed is None else SigningKey.of(seed).public


def key_file(settings: Settings) -> Path:
    """Where this machine keeps its key when the environment names none."""
    return settings.home / "journal" / "key"


def _read_seed(path: Path) -> bytes | None:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    with contextlib.suppress(ValueError):
        seed = base64.b64decode(text.strip(), validate=True)
        if len(seed) == SEED_BYTES:
            return seed
    raise ConfigurationError(
        f"the journal's key {path} is not {SEED_BYTES} bytes in base64: put it back from your copy, or remove it and "
        f"run `{zora_command('journal', 'seal', '--new-key')}`"
    )


def _make_seed(path: Path) -> None:
    """A new key, complete from the moment when it can be seen; one that was made at the same time wins."""
    make_private_folder(path.parent)
    new = path.with_name(f"key.{secrets.token_hex(8)}")
    try:
        write_private(new, base64.b64encode(secrets.token_bytes(SEED_BYTES)).decode() + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The end of a chain at some time, held by somebody who does not own the database: 32 bytes vouch for all before.

    `hash` is the SHA-256 of the header of block `number`, in hexadecimal, like `public_key`.
    """

    tenant_id: str
    number: int
    hash: str
    sealed_at: str
    public_key: str

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps(self.__dict__)

    @classmethod
    def parse(cls, line: str) -> Anchor:
        """From a line of JSON; raises `ValueError` when it is not an anchor."""
        try:
            fields: dict[str, Any] = read_json(line)
            anchor = cls(**{name: fields[name] for name in cls.__dataclass_fields__})
            if not isinstance(anchor.sealed_at, str):
                raise ValueError("sealed_at must be a time")
            if not isinstance(anchor.number, int) or len(bytes.fromhex(anchor.hash)) != 32:
                raise ValueError("its number or its hash is none")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an anchor: {error}") from error
        return anchor


class Remembered:
    """The last block that this machine signed or saw, for one tenant of one database.

    Who cuts the end of the chain off, blocks and all, is found out by this file. It goes by the database's address,
    because the same tenant may exist in several: another address is another chain, seen for the first time.
    """

    def __init__(self, settings: Settings, tenant_id: UUID) -> None:
        """Reads nothing yet."""
        self.path = settings.home / "journal" / "heads" / f"{tenant_id}-{_address(settings)}.json"

    def read(self) -> Anchor | None:
        """The remembered end, or None when nothing is remembered. Raises `ConfigurationError` when it is unreadable."""
        try:
            return Anchor.parse(self.path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self.path} is not readable as the journal's last block: {error}") from error

    def write(self, anchor: Anchor) -> None:
        """Remember it, unless another process here remembers a later one already."""
        before = self.read()
        if before is not None and before.number > anchor.number:
            return
        make_private_folder(self.path.parent)
        new = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        write_private(new, anchor.line() + "\n")
        new.replace(self.path)

    def forget(self) -> None:
        """Remember nothing, for example because the database was restored from a backup."""
        self.path.unlink(missing_ok=True)


def _address(settings: Settings) -> str:
    if settings.database_url is None:
        return "embedded"
    parts = urlsplit(settings.database_url)
    if "," in parts.netloc:  # one database on several hosts, in whatever order they are named
        hosts = ",".join(sorted(f"{host.lower()}:{port}" for host, port in read_address(settings.database_url).hosts))
        return hashlib.sha256(f"{hosts}{parts.path}".encode()).hexdigest()[:12]
    host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
    return hashlib.sha256(f"{host}:{parts.port or 5432}{parts.path}".encode()).hexdigest()[:12]
