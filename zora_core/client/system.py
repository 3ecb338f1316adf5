"""TODO system."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class ImportRecord(Record):
    """TODO a row of `import_records`."""

    number: int
    outcome: str | None = None
    reason: str | None = None
    note: str | None = None
    id: UUID


class System(Section):
    """TODO."""

    async def now(
        self,
    ) -> datetime:
        """TODO"""
        return await self._everyone.value(datetime, "zora_now")

    async def server_version(
        self,
    ) -> str:
        """TODO"""
        return await self._everyone.value(str, "server_version")

    async def health(
        self,
    ) -> Any:
        """TODO"""
        return await self._tenant.value(object, "database_health")

    async def import_records(
        self, *, kind: str, rows: Any, dry_run: bool = False, user_id: UUID | None = None
    ) -> Records[ImportRecord]:
        """TODO"""
        return await self._tenant.all(
            ImportRecord, "import_records", kind=kind, rows=rows, dry_run=dry_run, user_id=user_id
        )
