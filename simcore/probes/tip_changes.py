"""What becomes of a tip while it scans: it wears, picks up particles, and fragments break off.

Wear is Archard's: the volume k_w F s / H is lost (J. F. Archard, J. Appl. Phys. 24 (1953) 981),
and sets the height of the horizontal plane up to which the tip is gone. Particles and fractures
come at random. The history is played once, on the exact shape; the tip at the beginning of any
line is then a lookup.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanophantom.simcore.fields import Table, read_only
from nanophantom.simcore.models import Model
from nanophantom.simcore.probes.tip_body import Body, Particle, Plane, Point, Sections
from nanophantom.simcore.probes.tip_map import TipMap
from nanophantom.simcore.probes.tip_shape import ProbeTip, centred_grid
from nanophantom.simcore.probes.tips import contact_depth_nm

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHAPE_NM = 1e-3
"""Tips of two lines are one and the same map unless wear has shortened one by this much more."""
MOST_EVENTS = 1000
"""Of one cause in an acquisition."""
KEPT_MAPS = 16

PICK_UP, BREAK = "pick-up", "break"

EVENT_COLUMNS: dict[str, type] = {
    "t_s": float,
    "line": int,
    "kind": str,
    "size_nm": float,
    "offset_nm": float,
    "tilt_deg": float,
    "direction_deg": float,
    "apex_dx_nm": float,
    "apex_dy_nm": float,
    "shortened_nm": float,
    "radius_before_nm": float,
    "radius_after_nm": float,
}


class Event(NamedTuple):
    """A particle that got stuck, or a fragment that broke off.

    `size_nm` is the particle's radius or the fragment's height on the axis. A particle lies at
    `share` (0 at the apex, 1 at the greatest offset) in a direction; the fracture rises with
    `share` of the greatest slope towards it. Angles in rad.
    """

    t_s: float
    kind: str
    size_nm: float
    share: float
    direction: float


class TipLife(Model):
    """What may happen to a tip; by default nothing does."""

    wear_coefficient: float = Field(default=0.0, ge=0, json_schema_extra={"dimensionless": True})
    """Archard's coefficient k_w: 1e-3 to 1e-1 for silicon, 1e-4 to 1e-3 for silicon nitride; 0:
    no wear."""
    hardness_gpa: float = Field(default=10.0, gt=0, le=200)
    """Hardness H of the tip, which shares Archard's law with k_w."""
    pick_up_rate_per_s: float = Field(default=0.0, ge=0)
    """Mean rate at which particles get stuck to the tip."""
    particle_radius_nm: float = Field(default=3.0, gt=0, le=1e4)
    """Median radius of those particles."""
    particle_offset_nm: float = Field(default=5.0, ge=0, le=1e4)
    """They stick anywhere within this distance from the apex, half of them in the tip."""
    break_rate_per_s: float = Field(default=0.0, ge=0)
    """Mean rate at which a fragment breaks off the apex."""
    fragment_height_nm: float = Field(default=2.0, gt=0, le=1e4)
    """Median height of those fragments, on the axis of the tip."""
    fracture_tilt: float = Field(default=0.8, ge=0, le=1, json_schema_extra={"dimensionless": True})
    """Greatest tilt of the plane of fracture: 0 for a horizontal one; 1 for one that runs down to
    the apex' own height where the tip is as wide as the fragment's root."""
    size_spread: float = Field(default=0.3, ge=0, le=2, json_schema_extra={"dimensionless": True})
    """Standard deviation of the logarithm of both sizes."""

    def worn_nm3(self, force_nn: npt.ArrayLike, distance_nm: npt.ArrayLike) -> Floats:
        """Return the volume that sliding wears off, k_w F s / H (nN nm / GPa = nm^3)."""
        work = np.asarray(force_nn, np.float64) * np.asarray(distance_nm, np.float64)
        return np.asarray(self.wear_coefficient * work / self.hardness_gpa)

    def events(self, times_s: Floats, rng: Callable[[str], np.random.Generator]) -> list[Event]:
        """Draw what happens from the first to the last of some times, in order.

        Each cause is a Poisson process with a stream of its own. All its events take the same
        number of draws, so neither the other cause nor a longer time changes them.
        """
        start, end = float(times_s[0]), float(times_s[-1])
        events: list[Event] = []
        for kind, rate, median in (
            (PICK_UP, self.pick_up_rate_per_s, self.particle_radius_nm),
            (BREAK, self.break_rate_per_s, self.fragment_height_nm),
        ):
            if rate * (end - start) > MOST_EVENTS:
                raise ValueError(
                    f"a {kind} rate of {rate:g} per s makes {rate * (end - start):.0f} events; "
                    f"at most {MOST_EVENTS} are played"
                )
            if rate == 0.0:
                continue
            source = rng(kind)
            t = start + source.exponential() / rate
            while t <= end:
                size = median * math.exp(self.size_spread * source.standard_normal())
                share, turn = source.random(2)
                events.append(Event(t, kind, size, share, 2.0 * math.pi * turn))
                t += source.exponential() / rate
        return sorted(events)


@dataclass(frozen=True, eq=False)
class TipState:
    """A tip at one moment.

    Attributes
    ----------
    tip
        Its shape about its present apex.
    apex_nm
        Where (x, y) that apex is, counted from the fresh one: the image moves by minus that.
    shortened_nm
        How much shorter than fresh the tip is, which lowers the scanner's height; negative with a
        particle below the fresh apex.
    radius_nm
        Effective radius of the apex: the fresh one's, times the volume within 1 nm of the apex
        (a tenth of the fresh radius if that is less) over that of the fresh tip.
    flat_radius_nm
        Radius of the circle as large as the flat that wear has made.
    """

    tip: TipMap
    apex_nm: tuple[float, float]
    shortened_nm: float
    radius_nm: float
    flat_radius_nm: float


@dataclass(frozen=True, eq=False)
class TipHistory:
    """A tip's history, played: what it is at the beginning of each line, and after the last.

    Attributes
    ----------
    bodies, apices
        The fresh tip, and what each event made of it; and the lowest point (x, y, z) of each, in
        the frame of the fresh tip. Wear since then is not in them.
    body : (lines + 1,)
        Index of the body that each line begins with.
    t_s, distance_nm, worn_nm3, shortened_nm, radius_nm, flat_radius_nm : (lines + 1,)
        At the beginning of each line: time, sliding distance and worn volume since the first, and
        as in :class:`TipState`.
    events
        One row an event, see :meth:`tables`.
    step_nm, depth_nm
        Of the maps: distance between samples (y, x) and height that they hold.
    """

    bodies: tuple[Body, ...]
    apices: tuple[Point, ...]
    body: Ints
    t_s: Floats
    distance_nm: Floats
    worn_nm3: Floats
    shortened_nm: Floats
    radius_nm: Floats
    flat_radius_nm: Floats
    events: Table
    step_nm: tuple[float, float]
    depth_nm: float
    _maps: dict[tuple[int, int], TipMap] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        tip: ProbeTip,
        life: TipLife,
        *,
        lines: int,
        distance_nm_per_line: npt.ArrayLike,
        force_nn: npt.ArrayLike,
        line_times_s: npt.ArrayLike,
        step_nm: tuple[float, float],
        depth_nm: float,
        rng: Callable[[str], np.random.Generator],
    ) -> TipHistory:
        """Play what becomes of a tip.

        Parameters
        ----------
        tip, life
            The fresh tip, and what may happen to it.
        lines
            Number of lines of the acquisition, all its frames one after the other.
        distance_nm_per_line, force_nn
            How far the tip slides in a line, trace and retrace, and its mean load; one number, or
            one a line.
        line_times_s : (lines,)
            When each line begins.
        step_nm, depth_nm
            Distance between samples of the maps (y, x), and the range of heights to be imaged.
        rng
            Gives the stream of a cause by its name, "pick-up" or "break".

        Raises
        ------
        ValueError
            Times decrease, a load is negative, there are too many events, the tip is worn away,
            or its map would be too large.
        """
        times = np.asarray(line_times_s, np.float64)
        if times.shape != (lines,) or lines < 1 or (np.diff(times) < 0).any():
            raise ValueError(f"line_times_s must be {lines} times that don't decrease")
        distance = np.broadcast_to(np.asarray(distance_nm_per_line, np.float64), (lines,))
        load = np.broadcast_to(np.asarray(force_nn, np.float64), (lines,))
        if (distance < 0).any() or (load < 0).any():
            raise ValueError("distance_nm_per_line and force_nn must not be negative")
        worn = np.concatenate([[0.0], np.cumsum(life.worn_nm3(load, distance))])
        events = life.events(times, rng)
        # An event takes effect at the first line that begins after it.
        at = np.searchsorted(times, [e.t_s for e in events], side="left").astype(np.int64)
        begins, ends = np.append(0, at), np.append(at, lines)
        shortened, radius, flat = np.empty((3, lines + 1))
        index = np.empty(lines + 1, np.int64)
        contact = contact_depth_nm(tip.radius_nm)
        body, apex = Body(tip), Point(0.0, 0.0, 0.0)
        bodies, apices = [body], [apex]
        rows: list[dict[str, float | str]] = []
        fresh_nm3 = Sections.of(body, apex, contact).volume(contact)
        for k, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            here = slice(begin, end + 1)
            lost = worn[here] - worn[begin]
            size = events[k].size_nm if k < len(events) else 0.0
            sections = Sections.enough(body, apex, lost[-1], max(contact, size))
            rise = sections.rise(lost)
            index[here] = k
            shortened[here] = apex.z_nm + rise
            flat[here] = np.sqrt(sections.area(rise) / math.pi)
            near = sections.volume(rise + contact) - sections.volume(rise)
            radius[here] = tip.radius_nm * near / fresh_nm3
            if rows:
                rows[-1]["radius_after_nm"] = radius[begin]
            if k < len(events):
                event, level = events[k], float(shortened[end])
                half_width = math.sqrt(float(sections.area(rise[-1] + event.size_nm)) / math.pi)
                change, offset, tilt = _change(body, apex, level, half_width, event, life)
                body = body.with_change(Plane(level)).with_change(change)
                moved = body.lowest(apex, level + event.size_nm)
                rows.append(
                    {
                        "t_s": event.t_s,
                        "line": int(end),
                        "kind": event.kind,
                        "size_nm": event.size_nm,
                        "offset_nm": offset,
                        "tilt_deg": math.degrees(tilt),
                        "direction_deg": math.degrees(event.direction),
                        "apex_dx_nm": moved.x_nm - apex.x_nm,
                        "apex_dy_nm": moved.y_nm - apex.y_nm,
                        "shortened_nm": moved.z_nm - level,
                        "radius_before_nm": float(radius[end]),
                        "radius_after_nm": math.nan,  # known when the next stretch is played
                    }
                )
                apex = moved
                bodies.append(body)
                apices.append(apex)
        history = cls(
            bodies=tuple(bodies),
            apices=tuple(apices),
            body=read_only(index),
            t_s=read_only(np.append(times, times[-1])),
            distance_nm=read_only(np.append(0.0, np.cumsum(distance))),
            worn_nm3=read_only(worn),
            shortened_nm=read_only(shortened),
            radius_nm=read_only(radius),
            flat_radius_nm=read_only(flat),
            events={
                name: read_only(np.array([row[name] for row in rows], dtype))
                for name, dtype in EVENT_COLUMNS.items()
            },
            step_nm=step_nm,
            depth_nm=depth_nm,
        )
        history.tip_at(int(shortened.argmax()))  # the widest map: refused now or never
        return history

    @property
    def lines(self) -> int:
        """Number of lines; states are known for 0 to this, the end of the last."""
        return len(self.worn_nm3) - 1

    def worn_volume_nm3(self, line: int) -> float:
        """Return the volume that is worn off before a line."""
        return float(self.worn_nm3[line])

    def tip_at(self, line: int) -> TipMap:
        """Return the tip's map about its apex at the beginning of a line.

        It is a function of the line alone. Lines between which the tip wears by less than 1e-3 nm
        share one map.
        """
        k = int(self.body[line])
        x, y, z = self.apices[k]
        steps = round((self.shortened_nm[line] - z) / SHAPE_NM)
        tip = self._maps.get((k, steps))
        if tip is None:
            level = z + steps * SHAPE_NM
            reach = self.bodies[k].reach_nm(x, y, level + self.depth_nm)
            v, u = centred_grid(self.step_nm, reach, self.depth_nm)
            rise = np.maximum(self.bodies[k].heights_nm(x + u, y + v) - level, 0.0)
            tip = TipMap(-rise, (len(v) // 2, u.size // 2), self.step_nm)
            while len(self._maps) >= KEPT_MAPS:
                self._maps.pop(next(iter(self._maps)), None)
            self._maps[k, steps] = tip
        return tip

    def state_at(self, line: int) -> TipState:
        """Return the tip at the beginning of a line, and where its apex is."""
        x, y, _ = self.apices[self.body[line]]
        return TipState(
            tip=self.tip_at(line),
            apex_nm=(x, y),
            shortened_nm=float(self.shortened_nm[line]),
            radius_nm=float(self.radius_nm[line]),
            flat_radius_nm=float(self.flat_radius_nm[line]),
        )

    def tables(self) -> dict[str, Table]:
        """Return the truth: ``tip``, one row a line, and ``tip_events``.

        ``tip`` has what is so at the beginning of each line, as in :class:`TipState`.
        ``tip_events`` has time and first line after it; kind, ``pick-up`` or ``break``; the
        particle's radius or the fragment's height on the axis (size); the particle's offset from
        the apex (0 for a fragment) or the tilt of the fracture (0 for a particle) and its
        direction (0 = to the right, 90 = down; a fracture rises that way); how far the apex moved
        and how much shorter the tip became; the effective radius before and after.
        """
        lines = slice(0, self.lines)
        apices = np.array(self.apices)[self.body[lines]]
        return {
            "tip": {
                "line": np.arange(self.lines),
                "t_s": self.t_s[lines],
                "distance_nm": self.distance_nm[lines],
                "worn_volume_nm3": self.worn_nm3[lines],
                "shortened_nm": self.shortened_nm[lines],
                "flat_radius_nm": self.flat_radius_nm[lines],
                "radius_nm": self.radius_nm[lines],
                "apex_x_nm": apices[:, 0],
                "apex_y_nm": apices[:, 1],
            },
            "tip_events": self.events,
        }


def _change(
    body: Body, apex: Point, level_nm: float, half_width_nm: float, event: Event, life: TipLife
) -> tuple[Plane | Particle, float, float]:
    """Return what an event does to a body worn up to a level, its offset and its tilt.

    The half width is that of the tip where the axis meets the fracture: the plane falls by a share
    of the fragment's height over it.
    """
    cos, sin = math.cos(event.direction), math.sin(event.direction)
    x, y, _ = apex
    if event.kind == PICK_UP:
        offset = life.particle_offset_nm * math.sqrt(event.share)  # even over the disc
        x, y = x + offset * cos, y + offset * sin
        z = max(body.height_at(x, y), level_nm)
        return Particle(x, y, z, event.size_nm), offset, 0.0
    slope = life.fracture_tilt * event.share * event.size_nm / half_width_nm
    height = level_nm + event.size_nm - slope * (x * cos + y * sin)
    return Plane(height, slope * cos, slope * sin), 0.0, math.atan(slope)
