"""What a page view emits, estimated from the bytes it transfers (Sustainable Web Design Model v4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from zora_core.data import load


@dataclass(frozen=True)
class Model:
    """The model's constants: energy in kWh per GB, the grid's intensity in gCO2e per kWh, and the grades."""

    source: str
    bytes_per_gigabyte: int
    kwh_per_gb: float
    grams_per_kwh: float
    grades: tuple[tuple[str, float], ...]

    @property
    def grams_per_gb(self) -> float:
        """gCO2e per gigabyte transferred."""
        return self.kwh_per_gb * self.grams_per_kwh


@dataclass(frozen=True)
class Footprint:
    """The estimate for one view: grams of CO2e, its grade from A+ to F, and the sum behind it."""

    transfer_bytes: int
    grams_per_view: float
    grade: str
    formula: str
    source: str

    @property
    def kilograms_per_thousand_views(self) -> float:
        """kgCO2e for a thousand views; the same number as grams per view."""
        return self.grams_per_view


@lru_cache(maxsize=1)
def model() -> Model:
    """The constants of the data file."""
    constants = load("footprint")
    return Model(
        source=constants["source"],
        bytes_per_gigabyte=constants["bytes_per_gigabyte"],
        kwh_per_gb=sum(constants["operational_kwh_per_gb"].values()) + sum(constants["embodied_kwh_per_gb"].values()),
        grams_per_kwh=constants["grid"]["grams_co2e_per_kwh"],
        grades=tuple((entry["grade"], entry["grams"]) for entry in constants["grades"]),
    )


def footprint(transfer_bytes: int) -> Footprint:
    """Estimate one view that transfers `transfer_bytes`; every view is taken as a first one, on the world's grid."""
    constants = model()
    grams = transfer_bytes / constants.bytes_per_gigabyte * constants.grams_per_gb
    return Footprint(
        transfer_bytes=transfer_bytes,
        grams_per_view=grams,
        grade=next((grade for grade, most in constants.grades if grams <= most), "F"),
        formula=f"{transfer_bytes / constants.bytes_per_gigabyte:.9f} GB * {constants.kwh_per_gb:.3f} kWh/GB * "
        f"{constants.grams_per_kwh:g} gCO2e/kWh",
        source=constants.source,
    )
