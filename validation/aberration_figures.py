"""Figures of the task aberrations: the tableau, the phase of the lens, its coefficients, probes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy import fft

from nanophantom.analysis.tilted_aberrations import phase_radius_mrad
from nanophantom.simcore.electrons.aberrations import chi
from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, Floats, Plate, plot
from nanophantom.validation.figures import frame_shape, pixel_size_of
from nanophantom.validation.tableau_limit import ring_power

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.aberrations import Comparison

TILE = 192
"""Pixels of one power spectrum of the tableau."""
RINGS = 9
"""Rings of the untilted image that a power spectrum is drawn up to."""


def of_lens(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw the tableau, the phase plates, the coefficients and the probes."""
    plates = [_tableau(dataset, c), _phase_plates(c)]
    if c.components:
        plates += [_coefficients(c)]
    plates.append(_probes(c))
    return plates


def _tableau(dataset: Observed, c: Comparison) -> Plate:
    """Lay each image's power spectrum out at its tilt; its right half is the fitted lens's."""
    settings = dataset.settings
    tilts = np.asarray(settings["beam_tilts_mrad"], np.float64)
    shape, pixel_nm = frame_shape(dataset), pixel_size_of(dataset)
    finest = _finest(c, pixel_nm)
    k = np.linspace(-finest, finest, TILE)
    kx, ky = np.meshgrid(k, k)
    seen_k = [np.sort(fft.fftfreq(n, pixel_nm)) for n in shape]
    places, tile_inch = _places(tilts)
    width, height = (np.ptp(places, axis=0) + 1.0).tolist()
    figure = Figure(figsize=(width * tile_inch, height * tile_inch), facecolor="black")
    low = places.min(axis=0)
    for i, (tilt, place) in enumerate(zip(tilts, places, strict=True)):
        image = dataset.signal("image", i, i + 1)[0].astype(np.float64)
        measured = _smooth_spectrum(image)
        rows = np.searchsorted(seen_k[0], k).clip(0, shape[0] - 1)
        columns = np.searchsorted(seen_k[1], k).clip(0, shape[1] - 1)
        tile = _flattened(measured[np.ix_(rows, columns)], kx, ky)
        rings = ring_power(
            c.measured,
            (float(tilt[0]), float(tilt[1])),
            kx.ravel(),
            ky.ravel(),
            c.energy_kev,
            float(settings.get("focal_spread_nm") or 0.0),
            float(settings.get("convergence_mrad") or 0.0),
        ).reshape(kx.shape)
        tile = np.where(kx > 0, _contrast_of(rings, tile, kx, ky), tile)
        tile[np.hypot(kx, ky) > finest] = np.nan
        x, y = (place - low) / (width, height)
        axes = figure.add_axes((x, 1 - y - 1 / height, 1 / width, 1 / height))
        axes.imshow(tile, cmap="gray", vmin=-1.5, vmax=1.5)
        axes.set_axis_off()
        label = "no tilt" if not tilt.any() else f"{np.hypot(*tilt):.0f} mrad"
        figure.text(x + 0.01 / width, 1 - y - 0.02 / height, label, color="w", fontsize=9, va="top")
    caption = (
        "Power spectra of all images, laid out by the direction in which the beam is tilted. Left "
        "half of every disc: measured (brightness evened out); right half: the rings that the "
        f"measured lens would give. Discs end at {finest:.1f} /nm, {1 / finest:.2f} nm. Rings "
        "are dark where the lens turns the phase by multiples of pi, bright half way between; "
        "a tilt makes them larger, smaller and elliptical, and coma, astigmatisms and spherical "
        "aberration each do it in a pattern of their own. If the halves fit together at every "
        "tilt, the lens is known."
    )
    return Plate("Tableau: measured and fitted rings", caption, figure, raster=True, wide=True)


def _finest(c: Comparison, pixel_nm: float) -> float:
    """Return the frequency up to which rings are wide enough to be seen, 1/nm."""
    lam_nm = float(wavelength(c.energy_kev)) / 10
    defocus_nm = max(abs(c.measured.get("C10", 0.0)) / 10, 1.0)
    return float(min(0.45 / pixel_nm, np.sqrt(RINGS / (lam_nm * defocus_nm))))


def _places(tilts: Floats) -> tuple[Floats, float]:
    """Return the tiles' centres in units of their width, far enough apart, and that in inches."""
    apart = np.hypot(*(tilts[:, None] - tilts[None]).T)
    nearest = float(apart[apart > 0].min(initial=np.inf))
    places = tilts / nearest * 1.02 if np.isfinite(nearest) else 0.0 * tilts
    # rings of tiles that leave holes may move together, in their order
    radii = np.hypot(*places.T)
    levels = np.unique(np.round(radii, 3))
    packed = np.zeros_like(places)
    radius = 0.0
    for i, level in enumerate(levels.tolist()):
        mine = np.abs(radii - level) < 2e-3
        if level == 0:
            continue
        step = float(np.min(np.diff(np.sort(np.arctan2(*places[mine].T[::-1]))), initial=np.inf))
        least = 0.51 / np.sin(step / 2) if np.isfinite(step) and 0 < step < np.pi else 1.02
        radius = max(radius + 1.02 * (i > 0 or 0.0 in levels), least)
        packed[mine] = places[mine] / level * radius
    spread = float(max(np.ptp(packed[:, 0]), 1e-9)) + 1
    return packed, 11.0 / spread


def _smooth_spectrum(image: Floats) -> Floats:
    """Return the square root of the power spectrum, zero frequency in the middle, smoothed."""
    from scipy.ndimage import gaussian_filter

    ny, nx = image.shape
    window = np.outer(np.hanning(ny), np.hanning(nx))
    power = np.abs(fft.fft2((image - image.mean()) * window, workers=1)) ** 2
    return np.asarray(np.sqrt(gaussian_filter(fft.fftshift(power), 1.2)))


def _flattened(values: Floats, kx: Floats, ky: Floats) -> Floats:
    """Take away each ring's mean level and scale, smoothed over many rings."""
    mean, spread = _radial(values, kx, ky)
    return np.asarray((values - mean) / spread)


def _contrast_of(rings: Floats, tile: Floats, kx: Floats, ky: Floats) -> Floats:
    """Give model rings about the visibility that the measured half has at the same frequency."""
    model = _flattened(np.sqrt(np.maximum(rings, 0)), kx, ky)
    k = np.hypot(kx, ky)
    edges = np.linspace(0, k.max() * (1 + 1e-9), 9)
    middle = (edges[1:] + edges[:-1]) / 2
    cell = (np.digitize(k, edges) - 1)[kx < 0]
    product = np.bincount(cell, (model * tile)[kx < 0], 8) / np.bincount(cell, minlength=8)
    # speckle shares in the measured half's variance, so the correlation is less than visibility
    return np.asarray(model * np.interp(k, middle, np.clip(1.4 * product, 0.1, 1.0)))


def _radial(values: Floats, kx: Floats, ky: Floats) -> tuple[Floats, Floats]:
    """Return the smooth radial mean and standard deviation, on the pixels."""
    k = np.hypot(kx, ky)
    edges = np.linspace(0, k.max() * (1 + 1e-9), 15)
    middle = (edges[1:] + edges[:-1]) / 2
    cell = np.digitize(k, edges) - 1
    count = np.maximum(np.bincount(cell.ravel(), minlength=14), 1)
    mean = np.bincount(cell.ravel(), values.ravel(), 14) / count
    square = np.bincount(cell.ravel(), values.ravel() ** 2, 14) / count
    spread = np.sqrt(np.maximum(square - mean**2, 1e-12 * square.max()))
    return np.interp(k, middle, mean), np.interp(k, middle, spread)


def _phase_plates(c: Comparison) -> Plate:
    """Draw the phase that the lens adds, unknown before and left after the correction."""
    flat = [min(phase_radius_mrad(lens, c.energy_kev), 999.0) for lens in (c.before, c.after)]
    reach = float(np.clip(1.3 * max(c.angle_mrad, min(flat[1], 60.0)), 25.0, 80.0))
    angle = np.linspace(-reach, reach, 361)
    lam = float(wavelength(c.energy_kev))
    kx, ky = (1e-3 * a / lam for a in np.meshgrid(angle, angle))
    figure = Figure(figsize=(11, 5.1), layout="constrained")
    figure.patch.set_alpha(0)
    titles = ("before: what nobody knew", "after: what is left")
    shown: Any = None
    all_axes = figure.subplots(1, 2)
    for axes, lens, title, radius in zip(all_axes, (c.before, c.after), titles, flat, strict=True):
        phase = chi(lens, kx, ky, c.energy_kev)
        shown = axes.imshow(
            np.clip(phase / np.pi, -1, 1),
            cmap="RdBu_r",
            vmin=-1,
            vmax=1,
            extent=(-reach, reach, reach, -reach),
        )
        axes.contour(angle, angle, np.abs(phase), [np.pi / 4], colors="k", linewidths=1.2)
        axes.add_patch(
            Circle(
                (0, 0),
                min(radius, 2 * reach),
                fill=False,
                color=GREEN,
                linewidth=2.2,
                linestyle="--",
            )
        )
        axes.add_patch(Circle((0, 0), c.angle_mrad, fill=False, color=ORANGE, linewidth=1.4))
        axes.set_title(f"{title}\nflat to {radius:.1f} mrad", fontsize=11)
        axes.set_xlabel("angle in x (mrad)")
        axes.set_ylabel("angle in y (mrad), down")
        axes.set_xlim(-reach, reach)
        axes.set_ylim(reach, -reach)
    bar = figure.colorbar(shown, ax=all_axes, shrink=0.85)
    bar.set_label("phase in units of pi (clipped at ±pi)")
    caption = (
        "The phase by which unknown aberrations turn the beams, over their angles: before anything "
        "is measured (actual minus nominal lens), and after the lens is corrected by what was "
        "measured (actual minus measured). Black line: a phase of pi/4. Dashed green circle: the "
        f"largest that stays within it. Orange: {c.angle_mrad:g} mrad, where errors are judged."
    )
    return Plate("Phase of the lens", caption, figure, wide=True)


def _coefficients(c: Comparison) -> Plate:
    """Draw every component's error in units of its tolerance, with what was quoted and bound."""
    figure, axes = plot(10.4, 0.5 + 0.27 * len(c.components) + 0.9)
    rows = np.arange(len(c.components))[::-1]
    tolerance = np.array([c.tolerance_nm(f"C{n}{m}") for n, m, _ in c.components])
    error = np.array([c.error_nm(i) for i in c.components]) / tolerance
    axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
    if c.limit_nm is not None:
        limit = np.array([c.limit_nm[i] for i in c.components]) / tolerance
        axes.barh(rows, 2 * 1.96 * limit, left=-1.96 * limit, height=0.62, color=GREEN, alpha=0.3,
                  label="95 % of a perfect measurement (Cramér-Rao bound)")  # fmt: skip
    if c.sigma_nm is not None:
        sigma = np.array([c.sigma_nm[i] for i in c.components]) / tolerance
        axes.errorbar(
            error,
            rows,
            xerr=1.96 * sigma,
            fmt="o",
            color=BLUE,
            markersize=5,
            linewidth=1.4,
            capsize=3,
            label="error with the quoted 95 % interval",
        )
    else:
        axes.plot(error, rows, "o", color=BLUE, markersize=5, label="error")
    from nanophantom.validation.tasks.aberrations import NAMES, UNITS

    labels = []
    for n, m, part in c.components:
        unit, length = UNITS[n]
        component = (n, m, part)
        what = "" if not m else (" cos" if part == 0 else " sin")
        labels.append(
            f"C{n}{m}{what}  {NAMES[f'C{n}{m}'] if part == 0 else ''}   "
            f"{c.true_nm(component) / length:.3g} → {c.found_nm[component] / length:.3g} {unit}"
        )
    axes.set_yticks(rows, [label.replace("-", "−") for label in labels], fontsize=9)
    unit = f"what turns the phase by pi/4 at {c.angle_mrad:g} mrad"
    axes.set_xlabel(f"found minus true, in units of {unit}")
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    caption = (
        "Every coefficient: its name, true → found value, and its error on a scale on which ±1 "
        "spoils the image at the aperture's edge. Bars that cross the middle line are honest: the "
        "truth lies in the interval that was quoted. Green: what no measurement from these images "
        "can beat."
    )
    return Plate("Coefficients, true and found", caption, figure, wide=True)


def _probes(c: Comparison) -> Plate:
    """Draw the probe that the same lens would form, from its phase alone."""
    lam_nm = float(wavelength(c.energy_kev)) / 10
    n, step_nm = 256, lam_nm / (1e-3 * c.angle_mrad) / 24
    k = fft.fftfreq(n, step_nm)
    kx, ky = np.meshgrid(k / 10, k / 10)
    open_ = np.hypot(kx, ky) * 10 * lam_nm <= 1e-3 * c.angle_mrad

    def probe(lens: Mapping[str, float]) -> Floats:
        wave = fft.ifft2(open_ * np.exp(-1j * chi(lens, kx, ky, c.energy_kev)), workers=1)
        return np.asarray(fft.fftshift(np.abs(wave) ** 2))

    ideal, half = probe({}), n // 2 * step_nm
    figure = Figure(figsize=(11, 4.0), layout="constrained")
    figure.patch.set_alpha(0)
    shown: Any = None
    all_axes = figure.subplots(1, 3)
    views: tuple[tuple[str, Mapping[str, float]], ...] = (
        ("perfect lens", {}),
        ("before correction", c.before),
        ("after correction", c.after),
    )
    reach = min(half, 8 * lam_nm / (1e-3 * c.angle_mrad) / 2)
    for axes, (title, lens) in zip(all_axes, views, strict=True):
        intensity = probe(lens) / ideal.max()
        shown = axes.imshow(
            np.sqrt(intensity), cmap="inferno", vmin=0, vmax=1, extent=(-half, half, half, -half)
        )
        axes.set_xlim(-reach, reach)
        axes.set_ylim(reach, -reach)
        axes.set_title(f"{title}\npeak {100 * intensity.max():.3g} % of the perfect one",
                       fontsize=10.5)  # fmt: skip
        axes.set_xlabel("x (nm)")
    all_axes[0].set_ylabel("y (nm), down")
    bar = figure.colorbar(shown, ax=all_axes, shrink=0.85)
    bar.set_label("square root of intensity")
    caption = (
        "What these aberrations would do to a probe: the spot that the lens forms with an aperture "
        f"of {c.angle_mrad:g} mrad, all beams coherent, computed from the phases above (not "
        "measured). Before, the unknown aberrations smear it; what is left after the correction "
        "should look like the perfect lens."
    )
    return Plate("Probe through the same lens", caption, figure, wide=True)
