"""When, how brightly and with which settings an instrument looks."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from nanophantom.simcore.atoms import Window
from nanophantom.simcore.dose import DoseBudget, Ledger
from nanophantom.simcore.models import Model

Angles = tuple[float, float]
Dose = Annotated[float, Field(gt=0)]


class Exposures(Model):
    """How often, how long and how brightly the specimen is looked at."""

    n_frames: int = Field(default=40, ge=1, le=1_000_000)
    """Number of frames."""
    dose_e_per_A2: float = Field(default=50.0, gt=0)
    """Electrons that fall on the specimen during one frame."""
    exposure_s: float = Field(default=0.4, gt=0)
    """Length of one exposure."""
    dead_time_s: float = Field(default=0.0, ge=0)
    """Time from the end of one exposure to the start of the next; the beam is blanked."""
    doses_e_per_A2: Annotated[tuple[Dose, ...], Field(min_length=1)] | None = None
    """Dose of every frame, where they differ; n_frames is then their number."""
    before_e_per_A2: float = Field(default=0.0, ge=0)
    """What the specimen got before the first frame, while it was sought and focused on."""
    budget: DoseBudget = DoseBudget()
    """Limits of dose and dose rate that end the acquisition."""

    @model_validator(mode="after")
    def _a_dose_for_each(self) -> Self:
        if self.doses_e_per_A2 is None:
            return self
        n = len(self.doses_e_per_A2)
        if "n_frames" not in self.model_fields_set:
            self.__dict__["n_frames"] = n
        elif self.n_frames != n:
            raise ValueError(
                f"doses_e_per_A2 has {n} doses for n_frames = {self.n_frames}; leave n_frames away"
            )
        mean = float(np.mean(self.doses_e_per_A2))
        if "dose_e_per_A2" in self.model_fields_set and self.dose_e_per_A2 != mean:
            raise ValueError(
                "give dose_e_per_A2, or doses_e_per_A2 for every frame; not both (null is none)"
            )
        self.__dict__["dose_e_per_A2"] = mean
        return self

    @property
    def frame_doses_e_per_A2(self) -> tuple[float, ...]:
        """Dose of every frame."""
        return self.doses_e_per_A2 or (self.dose_e_per_A2,) * self.n_frames

    @property
    def period_s(self) -> float:
        """Time from one opening of the shutter to the next."""
        return self.exposure_s + self.dead_time_s

    def ledger(self, energy_kev: float, area: Window, budget: str = "budget") -> Ledger:
        """Return what falls on the specimen, exposure by exposure, as far as the budget allows.

        `budget` is the name of the field that sets it, for messages.
        """
        n = self.n_frames
        planned = Ledger(
            start_s=np.arange(n, dtype=np.float64) * self.period_s,
            length_s=np.full(n, self.exposure_s),
            fluence_e_per_A2=np.array(self.frame_doses_e_per_A2),
            energy_kev=energy_kev,
            area=area,
            before_e_per_A2=self.before_e_per_A2,
        )
        return planned.within(self.budget, budget)


class Series(Model):
    """Settings that change step by step: a through-focus series, or a tableau of beam tilts.

    Foci come as a start and a step or as a list. Where foci and tilts are both given they change
    together, so both have the same number.
    """

    defocus_start_nm: float | None = None
    """Defocus C10 of the first step; none: the foci are listed, or don't change."""
    defocus_step_nm: float | None = None
    """From one step to the next."""
    n_foci: int | None = Field(default=None, ge=1, le=10_000)
    """Number of steps from defocus_start_nm on."""
    defoci_nm: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """Defocus C10 of every step, instead of start, step and number."""
    beam_tilts_mrad: Annotated[tuple[Angles, ...], Field(min_length=1)] | None = None
    """Tilt of the illumination (x, y) of every step, as for a Zemlin tableau."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ramp = (self.defocus_start_nm, self.defocus_step_nm, self.n_foci)
        if any(v is not None for v in ramp):
            if any(v is None for v in ramp):
                raise ValueError(
                    "a ramp of the focus needs defocus_start_nm, defocus_step_nm and n_foci"
                )
            if self.defoci_nm is not None:
                raise ValueError("give defoci_nm, or defocus_start_nm with its step; not both")
        foci, tilts = self.foci_nm, self.beam_tilts_mrad
        if foci is None and tilts is None:
            raise ValueError("a series needs defoci_nm, defocus_start_nm or beam_tilts_mrad")
        if foci is not None and tilts is not None and len(foci) != len(tilts):
            raise ValueError(
                f"{len(foci)} foci and {len(tilts)} beam tilts; they change together, so give as "
                "many of each"
            )
        return self

    @property
    def foci_nm(self) -> tuple[float, ...] | None:
        """Defocus of every step; None where it doesn't change."""
        if self.defoci_nm is not None:
            return self.defoci_nm
        start, step, n = self.defocus_start_nm, self.defocus_step_nm, self.n_foci
        if start is None or step is None or n is None:
            return None
        return tuple(start + i * step for i in range(n))

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.foci_nm or self.beam_tilts_mrad or ())
