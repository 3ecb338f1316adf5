"""Climate profiles and missions, and the pages that agents look up by key."""

from __future__ import annotations

from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import ClimateMission, ClimateProfile, PageConfig, Record


class ClimateTotal(Record):
    """Missions of a category in one status, and what they save, in kgCO2e a year."""

    category: str | None = None
    status: str
    missions: int
    kgco2: float | None = None
    verified_missions: int
    verified_kgco2: float | None = None


class Climate(Section):
    """Climate data and pages, read only."""

    async def profiles(
        self,
    ) -> Records[ClimateProfile]:
        """The climate profiles."""
        return await self._tenant.all(ClimateProfile, "list_climate_profiles")

    async def missions(self, *, profile_id: UUID | None = None) -> Records[ClimateMission]:
        """Climate missions, of one profile or of all."""
        return await self._tenant.all(ClimateMission, "list_climate_missions", profile_id=profile_id)

    async def totals(
        self,
    ) -> Records[ClimateTotal]:
        """What the missions save, by category and status."""
        return await self._tenant.all(ClimateTotal, "list_climate_totals")

    async def pages(
        self,
    ) -> Records[PageConfig]:
        """The pages that agents look up by key."""
        return await self._tenant.all(PageConfig, "list_frontend_configs")
