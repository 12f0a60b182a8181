"""When and how brightly an instrument looks."""

from __future__ import annotations

from pydantic import Field

from nanophantom.simcore.models import Model


class Exposures(Model):
    """How often, how long and how brightly the specimen is looked at."""

    n_frames: int = Field(default=40, ge=1)
    """Number of frames."""
    dose_e_per_A2: float = Field(default=50.0, gt=0)
    """Electrons that fall on the specimen during one frame."""
    exposure_s: float = Field(default=0.4, gt=0)
    """Length of one exposure."""
    dead_time_s: float = Field(default=0.0, ge=0)
    """Time from the end of one exposure to the start of the next; the beam is blanked."""
