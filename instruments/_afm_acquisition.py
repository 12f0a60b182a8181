"""Images of a force microscope: the loop followed line by line over the surface."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.instruments import _afm_truth
from nanophantom.instruments._afm_modes import Contact, of_frame
from nanophantom.instruments._afm_surface import felt, landscape, sampled, strip
from nanophantom.simcore.fields import Array, Axis, Table
from nanophantom.simcore.parallel import map_threads
from nanophantom.simcore.probes.feedback import (
    Landscape,
    Loop,
    LoopState,
    drawn_noise,
    settled,
    stage_step,
)
from nanophantom.simcore.probes.height_disturbances import Disturbance
from nanophantom.simcore.probes.loop_kernels import felt_at, follow_line
from nanophantom.simcore.probes.piezo_scanner import ProbePath
from nanophantom.simcore.probes.tapping import conservative_phase_deg
from nanophantom.simcore.probes.tip_changes import TipHistory
from nanophantom.simcore.runs import Acquisition, Cost, Frame, Parts, Run, SignalSpec
from nanophantom.simcore.specimens import Specimen

if TYPE_CHECKING:
    from nanophantom.instruments.afm import AFM

Floats = npt.NDArray[np.float64]

WAYS = ("", "_retrace")
"""What is appended to a signal's name, there and back."""
RING_DOWNS_A_KICK = 0.2
"""Heat moves the lever in kicks that are this far apart, at most."""
RESTS, TIME_TO_REST = 40, 25.0
"""A loop is followed to its rest in so many parts, for so many of its own time constants."""
LEAST_STEPS = 4
"""Steps of the loop in a dwell, at least: a fast scan gets a quicker loop."""


@dataclass(frozen=True, eq=False)
class Followed:
    """What the loop made of a frame: means over each dwell, (lines, m), in the order of time."""

    stage_nm: Floats
    error_nm: Floats
    phase_deg: Floats
    felt_nm: Floats


@dataclass(frozen=True, eq=False)
class Recorded:
    """What came out of the instrument.

    Attributes
    ----------
    images
        (height, width) by the name of the signal.
    spikes
        Pixels that the sensor's spikes hit, trace and retrace, bool.
    """

    images: Mapping[str, Floats]
    spikes: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


class AFMAcquisition(Acquisition):
    """Some planned images of one specimen."""

    def __init__(self, afm: AFM, specimen: Specimen, run: Run) -> None:
        self.afm, self.run, self.known = afm, run, specimen.known
        self.n_frames = afm.scan.n_frames
        self.motion = afm.scanner.motion(afm.scan, run.rng)
        self.surface = sampled(
            specimen, self.motion.window(), afm.tip, afm.scan, afm.surface_step_nm
        )
        self.answer = afm.imaging.answer(afm.cantilever, afm.tip.radius_nm, self.surface.materials)
        self.loops = tuple(self._loop(frame) for frame in range(self.n_frames))
        self.rests_nm = tuple(self._rests(frame) for frame in range(self.n_frames))
        self.tips = self._tip_history(float(np.ptp(self.surface.heights_nm)) + 1e-6)

    def _rests(self, frame: int) -> tuple[float, ...]:
        """Return how far over each material the lever rests at the set point of a frame.

        Raises
        ------
        ValueError
            The loop can't keep the set point on one of them.
        """
        rests = []
        for number, material in enumerate(self.surface.materials):
            try:
                rests.append(self._rest(self.loops[frame], number))
            except ValueError as problem:
                raise ValueError(
                    f"imaging (frame {frame}, on {material.name}): {problem}"
                ) from None
        return tuple(rests)

    def _rest(self, loop: Loop, material: int) -> float:
        """Return where the loop comes to rest over a flat of one material.

        In contact that is known; a tapping lever is followed until it rests, since steady states
        that its averages allow needn't be those that it finds.
        """
        expected = self.answer.distance_at(loop.setpoint_nm, material)
        if not self.tapping:
            return float(expected)
        flat = Landscape(
            0,
            0,
            1,
            1,
            np.zeros((2, 2)),
            np.full((2, 2), material, np.uint8),
            np.zeros(material + 1),
        )
        gain = 0.25 / (loop.ring_down_s + 4.0 * loop.dt_s / loop.detected_share)
        calm = loop._replace(
            integral_per_s=gain,
            proportional=0.0,
            thermal_nm=0.0,
            detector_nm=0.0,
            low_nm=-math.inf,
            high_nm=math.inf,
        )
        state = settled(calm, expected + 0.5, self._phase_deg(loop), 0.0)
        out, none = np.empty((4, RESTS)), np.zeros(RESTS)
        steps = math.ceil(TIME_TO_REST / gain / loop.dt_s / RESTS)
        follow_line(
            calm,
            self.answer.tapping,
            self.answer.contact,
            flat,
            none,
            none,
            none,
            steps,
            state.values,
            state.drives,
            *drawn_noise(calm, 0, self.run.rng("thermal"), self.run.rng("detector")),
            out,
        )
        stage, amplitude = out[0, RESTS // 2 :], out[1, RESTS // 2 :]
        off = abs(float(amplitude.mean()) - loop.setpoint_nm)
        if not off < 0.02 * self.answer.free_nm or np.ptp(stage) > 0.1 * self.answer.free_nm:
            raise ValueError(
                f"a tapping lever finds no rest at an amplitude of {loop.setpoint_nm:.3g} nm: it "
                "sticks or jumps between states; take another set point, a larger amplitude or a "
                "stiffer lever"
            )
        return float(stage.mean())

    def _tip_history(self, depth_nm: float) -> TipHistory:
        """Play what becomes of the tip; wear is linear in force, whose mean the loop keeps."""
        afm, scan = self.afm, self.afm.scan
        forces = [
            self.answer.forces_at(self.rest_nm(frame), 0)[0] for frame in range(self.n_frames)
        ]
        lines = scan.shape[0]
        times = np.concatenate([scan.times_s(f)[:, 0] for f in range(self.n_frames)])
        return TipHistory.of(
            afm.tip,
            afm.tip_life,
            lines=lines * self.n_frames,
            line_times_s=times,
            distance_nm_per_line=2.0 * scan.travel_nm[1],
            force_nn=np.maximum(np.repeat(forces, lines), 0.0),
            step_nm=self.surface.step_nm,
            depth_nm=depth_nm,
            rng=self.run.rng,
        )

    # --- what is recorded --------------------------------------------------------------------

    @property
    def tapping(self) -> bool:
        """Whether the lever is driven."""
        return not isinstance(self.afm.imaging, Contact)

    def signals(self) -> Mapping[str, SignalSpec]:
        """Return height and error, and in tapping the phase, trace and retrace."""
        (step_y, step_x), shape = self.afm.scan.step_nm, self.afm.scan.shape
        axes = (Axis("y", step_y, "nm"), Axis("x", step_x, "nm"))
        units = {"height": "nm", "error": "nm"} | ({"phase": "deg"} if self.tapping else {})
        return {
            name + way: SignalSpec(shape, "float32", axes, unit, ideal=f"ideal_{name}{way}")
            for name, unit in units.items()
            for way in WAYS
        }

    def settings(self) -> Mapping[str, Any]:
        """Return the nominal settings, the shape of the tip as it was characterised among them."""
        return _afm_truth.settings(self)

    def parts(self) -> Mapping[str, Callable[[], Mapping[str, Array]]]:
        """Return the surface as the tip feels it, unless the tip changes."""
        if self.tip_changes:
            return {}
        fresh = self.tips.state_at(0).tip
        return {"felt": functools.partial(felt, self.surface, fresh, self.rests_nm[0])}

    def expose(self, i: int, parts: Parts | None = None) -> Frame:
        """Make image ``i``: the loop is followed with its noise, and without for the truth."""
        if not 0 <= i < self.n_frames:
            raise IndexError(f"frame {i} of {self.n_frames}")
        made = self.make_parts() if parts is None else parts
        path = self.motion.path(i)
        disturbance = self.disturbance(i)
        raised = path.z_nm + disturbance.z_nm
        ways = (True, False) if self.afm.noise else (False,)
        follow = functools.partial(self._follow, i, path, raised, made)
        *noisy, quiet = map_threads(lambda _, way: follow(way), ways, lambda: None)
        recorded = self._recorded(i, noisy[0] if noisy else quiet, noisy=bool(noisy))
        signals = {name: values.astype(np.float32) for name, values in recorded.images.items()}
        ideal = self._recorded(i, quiet, noisy=False).images
        truth: dict[str, Array] = {
            f"ideal_{name}": values.astype(np.float32) for name, values in ideal.items()
        }
        truth |= _afm_truth.of_one_frame(self, i, path, disturbance, quiet)
        for way, spikes in zip(WAYS, recorded.spikes, strict=True):
            truth[f"spikes{way}"] = spikes.astype(np.uint8)
        return Frame(i, signals, truth)

    def truth(self, parts: Parts | None = None) -> Mapping[str, Table]:
        """Return tip, lever, loop, timing and scanner, materials, and all that happened."""
        return _afm_truth.tables(self, self.make_parts() if parts is None else parts)

    def truth_outline(self) -> Mapping[str, str]:
        """Return one line on every table of :meth:`truth`."""
        return _afm_truth.outline()

    @property
    def notes(self) -> tuple[str, ...]:
        """How finely the surface is sampled, and what acts on it."""
        return _afm_truth.notes(self)

    def cost(self) -> Cost:
        """Estimate from the loop's steps and the tip's samples."""
        pixels = math.prod(self.afm.scan.shape)
        samples = self.surface.heights_nm.size
        touched = self.tips.state_at(0).tip.heights_nm.size
        steps = sum(self.steps(f) for f in range(self.n_frames)) * 2.2 * pixels
        times = self.n_frames if self.tip_changes else 1
        return Cost(
            memory_bytes=int(300e6 + 60 * samples + 700 * pixels),
            disk_bytes=int(self.n_frames * pixels * 4 * 26 + 2e6),
            cpu_s=7e-8 * steps + 4e-10 * samples * touched * times + 1e-6 * pixels,
        )

    # --- the loop ----------------------------------------------------------------------------

    def steps(self, frame: int) -> int:
        """Return the loop's steps in a dwell."""
        return max(
            LEAST_STEPS, math.ceil(self.afm.scan.knot_s(frame) * 1e3 * self.afm.controller.rate_khz)
        )

    def _loop(self, frame: int) -> Loop:
        afm = self.afm
        dt = afm.scan.knot_s(frame) / self.steps(frame)
        lever, detector = afm.cantilever, afm.detector
        half = 500.0 * afm.stage.range_um
        return Loop(
            tapping=not isinstance(afm.imaging, Contact),
            dt_s=dt,
            proportional=afm.controller.proportional,
            integral_per_s=of_frame(afm.controller.integral_per_s, frame),
            setpoint_nm=afm.imaging.setpoint_nm(frame, lever),
            stage=stage_step(afm.stage, dt),
            low_nm=-half,  # of where it starts
            high_nm=half,
            detected_share=-math.expm1(-2e3 * math.pi * detector.bandwidth_khz * dt),
            ring_down_s=lever.ring_down_s,
            thermal_nm=lever.thermal_rms_nm,
            shaken_every=max(1, int(RING_DOWNS_A_KICK * lever.ring_down_s / dt)),
            # White noise of one-sided density D has the variance D^2 / 2 dt in steps of dt.
            detector_nm=1e-6 * detector.noise_fm_per_sqrt_hz * math.sqrt(0.5 / dt),
        )

    def _follow(
        self, frame: int, path: ProbePath, raised_nm: Floats, made: Parts, noisy: bool
    ) -> Followed:
        """Follow the surface through a frame, with or without noise."""
        loop = self.loops[frame]
        if not noisy:
            loop = loop._replace(thermal_nm=0.0, detector_nm=0.0)
        thermal, noise = self.run.rng("thermal", frame), self.run.rng("detector", frame)
        (lines, m), steps = path.x_nm.shape, self.steps(frame)
        out = np.empty((lines, 4, m))
        whole = None
        if not self.tip_changes:
            same = self.rests_nm[frame] == self.rests_nm[0]
            fresh = self.tips.state_at(0).tip
            whole = landscape(
                self.surface,
                made["felt"] if same else felt(self.surface, fresh, self.rests_nm[frame]),
            )
        state: LoopState | None = None
        for line in range(lines):
            x, y, raised = path.x_nm[line], path.y_nm[line], raised_nm[line]
            if whole is None:
                tip = self.tips.state_at(frame * lines + line)
                # The image is that of the present apex, which may lie beside the fresh one.
                x, y = x + tip.apex_nm[0], y + tip.apex_nm[1]
                raised = raised - tip.shortened_nm
                land = strip(
                    self.surface,
                    tip.tip,
                    float(y.min()),
                    float(y.max()),
                    self.rests_nm[frame],
                )
            else:
                land = whole
            if state is None:
                state = self._begin(frame, loop, land, float(x[0]), float(y[0]), float(raised[0]))
                middle = float(state.values[0])
                loop = loop._replace(low_nm=middle + loop.low_nm, high_nm=middle + loop.high_nm)
            follow_line(
                loop,
                self.answer.tapping,
                self.answer.contact,
                land,
                x,
                y,
                raised,
                steps,
                state.values,
                state.drives,
                *drawn_noise(loop, m * steps, thermal, noise),
                out[line],
            )
        stage, detected, phase, height = (np.asarray(a) for a in np.moveaxis(out, 1, 0))
        if self.afm.controller.ideal:
            stage, detected = height + self.rest_nm(frame), np.full_like(height, loop.setpoint_nm)
            phase = np.full_like(height, self._phase_deg(loop))
        return Followed(stage - self.rest_nm(frame), detected - loop.setpoint_nm, phase, height)

    def _begin(
        self, frame: int, loop: Loop, land: Landscape, x_nm: float, y_nm: float, raised_nm: float
    ) -> LoopState:
        """Let the loop settle where the first line begins."""
        height, material = felt_at(land, x_nm, y_nm)
        rest = height + raised_nm + self.rests_nm[frame][material]
        delay_s = 1e-6 * self.afm.controller.delay_us
        return settled(loop, rest, self._phase_deg(loop), delay_s)

    def _phase_deg(self, loop: Loop) -> float:
        """Return the phase of a tapping lever at the set point on an elastic surface."""
        ratio = loop.setpoint_nm / self.answer.free_nm if self.tapping else 1.0
        return conservative_phase_deg(ratio)

    def rest_nm(self, frame: int) -> float:
        """Return how far over the first material the lever rests at the set point.

        Heights are counted from there, so that the first material appears at its own height.
        """
        return self.rests_nm[frame][0]

    def disturbance(self, frame: int) -> Disturbance:
        """Draw what disturbs a frame."""
        return self.afm.disturbances.draw(self.afm.scan, frame, self.run.rng)

    def _recorded(self, frame: int, followed: Followed, noisy: bool) -> Recorded:
        """Record what the loop made, as images; without noise the sensor is perfect."""
        scan = self.afm.scan
        heights = np.stack(scan.as_images(followed.stage_nm, frame))
        spikes = np.zeros(heights.shape, np.bool_)
        if noisy:
            reading = self.afm.sensor.read(heights, frame, self.run.rng)
            heights, spikes = reading.heights_nm, reading.spikes
        images: dict[str, Any] = {
            "height": heights,
            "error": scan.as_images(followed.error_nm, frame),
        }
        if self.tapping:
            images["phase"] = scan.as_images(followed.phase_deg, frame)
        return Recorded(
            {
                name + way: image
                for name, both in images.items()
                for way, image in zip(WAYS, both, strict=True)
            },
            (spikes[0], spikes[1]),
        )

    # --- for the truth -----------------------------------------------------------------------

    @property
    def tip_changes(self) -> bool:
        """Whether the tip at the end isn't the fresh one."""
        return bool(self.tips.worn_nm3[-1] > 0 or len(self.tips.bodies) > 1)

    def fresh_image(self, made: Parts) -> Floats:
        """Return the surface dilated by the fresh tip."""
        if self.tip_changes or len(self.surface.materials) > 1:
            return felt(self.surface, self.tips.state_at(0).tip)["heights_nm"]
        return np.asarray(made["felt"]["heights_nm"], np.float64)
