"""TODO climate."""

from __future__ import annotations

from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import ClimateMission, ClimateProfile, PageConfig, Record


class ClimateTotal(Record):
    """TODO a row of `list_climate_totals`."""

    category: str | None = None
    status: str
    missions: int
    kgco2: float | None = None
    verified_missions: int
    verified_kgco2: float | None = None


class Climate(Section):
    """TODO."""

    async def profiles(
        self,
    ) -> Records[ClimateProfile]:
        """TODO"""
        return await self._tenant.all(ClimateProfile, "list_climate_profiles")

    async def missions(self, *, profile_id: UUID | None = None) -> Records[ClimateMission]:
        """TODO"""
        return await self._tenant.all(ClimateMission, "list_climate_missions", profile_id=profile_id)

    async def totals(
        self,
    ) -> Records[ClimateTotal]:
        """TODO"""
        return await self._tenant.all(ClimateTotal, "list_climate_totals")

    async def pages(
        self,
    ) -> Records[PageConfig]:
        """TODO"""
        return await self._tenant.all(PageConfig, "list_frontend_configs")
