"""What instruments with a scanned probe share: the column, the raster and the knobs of both."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Self

from pydantic import Field, model_validator

from nanophantom.instruments._column import LARGEST_BAND_MRAD, Column
from nanophantom.instruments._scanning import ELECTRONS_PER_PA_US, Scan
from nanophantom.simcore.atoms import Window
from nanophantom.simcore.dose import DoseBudget, Ledger
from nanophantom.simcore.electrons.optics import ProbeOptics
from nanophantom.simcore.electrons.settings import Multislice
from nanophantom.simcore.environment import Drift
from nanophantom.simcore.history import Evolves
from nanophantom.simcore.schedule import Exposures
from nanophantom.simcore.specimens import Specimen

MOST_POSITIONS = 20_000_000
"""Probe positions in all; times and places of so many fill a gigabyte."""


class ProbeColumn(Column):
    """A column that focuses a probe on the specimen and scans it."""

    preset_part: ClassVar[str] = "probe"

    energy_kev: float = Field(default=200.0, ge=10, le=3000)
    """Beam energy."""
    probe: ProbeOptics = ProbeOptics(semiangle_mrad=20.0)
    """Aperture, aberrations and coherence of the probe."""
    beam_current_pa: float = Field(default=20.0, gt=0)
    """Current in the probe."""
    shot_noise: bool = True
    """Count single electrons and photons; off, the expectation itself is read out."""
    scan: Scan = Scan()
    """Raster and timing."""
    stage_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    """Rotation of the specimen about the x and the y axis."""
    before_e_per_A2: float = Field(default=0.0, ge=0)
    """What the specimen got before the first scan."""
    budget: DoseBudget = DoseBudget()
    """Limits of dose and dose rate that end the acquisition."""
    drift: Drift = Drift()
    """Specimen drift; it acts between the probe's positions and shears and stretches the scan."""
    multislice: Multislice = Multislice()
    """Numerical settings of the scattering."""

    @property
    @abstractmethod
    def signal_names(self) -> tuple[str, ...]:
        """Names of all signals."""

    @property
    @abstractmethod
    def reach_mrad(self) -> float:
        """Largest angle that has to be computed."""

    @model_validator(mode="after")
    def _scan_is_possible(self) -> Self:
        if max(abs(a) for a in self.stage_tilt_mrad) > 500:
            raise ValueError("stage_tilt_mrad must lie within ±500 mrad")
        names = self.signal_names
        if not names:
            raise ValueError("detectors: there is none; give at least one")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two signals have the same name: {', '.join(twice)}")
        scan = self.scan
        positions = scan.width_px * scan.height_px * scan.n_frames
        if positions > MOST_POSITIONS:
            raise ValueError(
                f"scan: {scan.width_px} x {scan.height_px} positions in {scan.n_frames} frames are "
                f"{positions:,}, at most {MOST_POSITIONS:,} can be planned; lower width_px, "
                "height_px or n_frames"
            )
        if self.band_limit_mrad > LARGEST_BAND_MRAD:
            raise ValueError(
                f"aperture and detectors ask for waves to {self.band_limit_mrad:.4g} mrad, beyond "
                f"{LARGEST_BAND_MRAD:g} they can't be computed; lower detectors.outer_mrad"
            )
        band = self.multislice.band_limit_mrad
        if band is not None and band < self.reach_mrad:
            raise ValueError(
                f"multislice.band_limit_mrad ({band:g}) is below what aperture and detectors "
                f"reach ({self.reach_mrad:.4g}); they would see angles that were never computed"
            )
        return self

    @property
    def band_limit_mrad(self) -> float:
        """Largest scattering angle that is kept: by default 1.2 times what is looked at.

        Images hold frequencies up to twice the probe's, so that counts as looked at too.
        """
        if self.multislice.band_limit_mrad is not None:
            return self.multislice.band_limit_mrad
        return 1.2 * max(self.reach_mrad, 2 * self.probe.semiangle_mrad)

    def ledger(self) -> Ledger:
        """Return what falls on the scanned area, scan by scan, as far as the budget allows.

        Within a scan the dose counts as evenly spread over its time and area.
        """
        scan = self.scan
        exposures = Exposures(
            n_frames=scan.n_frames,
            dose_e_per_A2=self.electrons / (10.0 * scan.pixel_size_nm) ** 2,
            exposure_s=scan.timing.frame_s,
            before_e_per_A2=self.before_e_per_A2,
            budget=self.budget,
        )
        width, height = (n * scan.pixel_size_nm for n in (scan.width_px, scan.height_px))
        return exposures.ledger(self.energy_kev, Window.centred(width, height))

    def whole_ledger(self, specimen: Specimen) -> Ledger:
        """Return the ledger of an instrument that neither stops nor follows a changing specimen.

        Raises
        ------
        ValueError
            The specimen changes, or the budget doesn't allow all scans.
        """
        if isinstance(specimen, Evolves):
            raise ValueError(
                "sample.kind: an evolving specimen can be looked at by tem, stem and diffraction; "
                "use one of these, or what it is made `of`"
            )
        ledger = self.ledger()
        if ledger.stopped:
            raise ValueError(f"budget: {ledger.stopped} Ask for as many scans as it allows.")
        return ledger

    @property
    def electrons(self) -> float:
        """Electrons that fall on the specimen at each position."""
        return self.beam_current_pa * self.scan.dwell_us * ELECTRONS_PER_PA_US
