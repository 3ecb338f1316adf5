"""The database's clock, version and figures, and imports."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class ImportedRow(Record):
    """What became of a row of an import."""

    number: int
    outcome: str | None = None
    reason: str | None = None
    note: str | None = None
    id: UUID


class System(Section):
    """The installation itself."""

    async def now(
        self,
    ) -> datetime:
        """The database's time (UTC)."""
        return await self._everyone.value(datetime, "zora_now")

    async def server_version(
        self,
    ) -> str:
        """The version of PostgreSQL."""
        return await self._everyone.value(str, "server_version")

    async def health(
        self,
    ) -> Any:
        """Figures about the database: size, connections, transactions, dead rows."""
        return await self._tenant.value(object, "database_health")

    async def import_records(
        self, *, kind: str, rows: Any, dry_run: bool = False, user_id: UUID | None = None
    ) -> Records[ImportedRow]:
        """Import rows of the original system; with `dry_run` nothing is written."""
        return await self._tenant.all(
            ImportedRow, "import_records", kind=kind, rows=rows, dry_run=dry_run, user_id=user_id
        )
