"""Figures of the task exit-wave: the series, the wave beside the true one, and how they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from scipy import fft

from nanophantom.simcore.electrons.imaging import expected_image
from nanophantom.simcore.electrons.optics import Aberrations
from nanophantom.validation.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    Floats,
    Plate,
    contrast,
    extent_of,
    plot,
    plots,
    scale_bar,
)
from nanophantom.validation.figures import drift_of, pixel_size_of
from nanophantom.validation.wave_comparison import Complexes, ring_correlation

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.exit_wave import Comparison

TRIAL_FOCI_NM = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])
"""Changes of the nominal focus that an image is compared at."""


def of_wave(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw the series, phase and amplitude, the correlation of rings, columns and foci."""
    plates = [_series(dataset), _waves(c), _correlation(c)]
    if len(c.column_x_nm):
        plates.append(_columns(c))
    plates.append(_foci(dataset, c))
    return plates


def _series(dataset: Observed) -> Plate:
    """Show the first, a middle and the last image."""
    focus_nm = np.asarray(dataset.settings["defoci_nm"], np.float64)
    middle = int(np.argmin(np.abs(focus_nm)))
    shown = sorted({0, middle, len(focus_nm) - 1})
    figure, axes = _panels(len(shown))
    ends = []
    for ax, i in zip(axes, shown, strict=True):
        image = dataset.signal("image", i, i + 1)[0].astype(np.float64)
        low, high = contrast(image)
        extent = extent_of(image.shape, pixel_size_of(dataset))
        ax.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent)
        ax.set_title(f"image {i}: focus {focus_nm[i]:+g} nm".replace("-", "−"), fontsize=11)
        scale_bar(ax, extent)
        ends.append(f"{low:.0f} to {high:.0f}")
    caption = (
        f"Three of the {len(focus_nm)} images, as counted. Under focus and over focus the lens "
        "mixes the wave's phase into the image in different ways: columns are bright or dark, "
        "fringes reach into the vacuum. No image alone holds phase and amplitude. Grey scales, "
        f"in counts a pixel: {', '.join(ends)}."
    )
    return Plate("Images of the series", caption, figure, wide=True)


def _waves(c: Comparison) -> Plate:
    """Show phase and amplitude, restored, true and their difference."""
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    figure.patch.set_alpha(0)
    rows: Any = figure.subplots(2, 3)
    extent = extent_of(c.true.shape, c.sight.pixel_nm)
    direct = [np.angle(c.sight.mean(wave)) for wave in (c.found, c.true)]
    phase = [np.angle(w * np.exp(-1j * p)) for w, p in zip((c.found, c.true), direct, strict=True)]
    apart = np.angle(np.exp(1j * (phase[0] - phase[1])))
    size = [np.abs(w) for w in (c.found, c.true)]
    low, high = np.percentile(phase[1], [0.5, 99.5])
    few = float(np.clip(np.percentile(np.abs(apart[c.sight.inside]), 99), 0.1, np.pi))
    least, most = np.percentile(size[1], [0.5, 99.5])
    little = float(np.percentile(np.abs(size[0] - size[1])[c.sight.inside], 99))
    table = [
        [(phase[0], "viridis", low, high, "restored phase"),
         (phase[1], "viridis", low, high, "true phase"),
         (apart, "RdBu_r", -few, few, "restored minus true phase")],
        [(size[0], "gray", least, most, "restored amplitude"),
         (size[1], "gray", least, most, "true amplitude"),
         (size[0] - size[1], "RdBu_r", -little, little, "restored minus true amplitude")],
    ]  # fmt: skip
    for row, panels, unit in zip(rows, table, ("rad", "bare beam = 1"), strict=True):
        for axes, (image, colours, bottom, top, title) in zip(row, panels, strict=True):
            shown = axes.imshow(image, cmap=colours, vmin=bottom, vmax=top, extent=extent)
            axes.set_title(title, fontsize=11)
            axes.set_axis_off()
            scale_bar(axes, extent)
            bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
            bar.set_label(unit)
    coarsest = 1 / c.sight.band_per_nm[0]
    caption = (
        "The wave behind the specimen: restored, true, and the difference. The phase counts the "
        "potential that electrons went through, so a column is the brighter the more and the "
        "heavier its atoms. What the series can't see shows in the difference: slow changes over "
        f"more than {coarsest:.1f} nm (clouds), and a common error of focus or astigmatism (rings "
        "or crosses at every column). Nothing of this is hidden here; a constant phase and a "
        "common shift are taken out."
    )
    return Plate("Exit wave: phase and amplitude", caption, figure, wide=True)


def _correlation(c: Comparison) -> Plate:
    """Draw the Fourier ring correlation with the true wave."""
    figure, axes = plot(5.4, 4.0)
    for wave, colour, style, label in (
        (c.found, BLUE, "-", "as handed in"),
        (c.refocused, GREEN, "--", "focus and astigmatism set right"),
    ):
        k, correlation = ring_correlation(wave, c.true, c.sight)
        axes.plot(k, correlation, style, color=colour, linewidth=1.8, label=label)
    low, high = c.sight.band_per_nm
    axes.axvspan(0, low, color=INK, alpha=0.1, linewidth=0)
    axes.axhline(0.5, color=ORANGE, linewidth=1.2, linestyle=":", label="1/2")
    axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
    axes.set_xlim(0, high)
    axes.set_ylim(min(-0.1, float(correlation.min())), 1.05)
    axes.set_xlabel("spatial frequency (1/nm)")
    axes.set_ylabel("correlation with the true wave")
    above = axes.secondary_xaxis("top")
    marks = np.array([m for m in (1, 0.5, 0.3, 0.2, 0.15, 0.12, 0.1, 0.08) if 1 / m <= high])
    above.set_xticks(1 / marks, [f"{m:g}" for m in marks])
    above.set_xlabel("period (nm)")
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    caption = (
        "How well the restored wave agrees with the true one, ring by ring of spatial frequency: 1 "
        "is perfect, 0 chance, below 0 reversed contrast. Grey: coarse periods that the series "
        "can't see. A fall towards fine periods that the dashed line doesn't have is an error of "
        "focus or astigmatism, which can be set right afterwards."
    )
    return Plate("Agreement against detail", caption, figure)


def _columns(c: Comparison) -> Plate:
    """Draw the columns' phases, found against true."""
    from ase.data import chemical_symbols

    true = c.column_phases(c.true)
    figure, axes = plot(5.4, 4.0)
    for number, colour, marker in zip(
        np.unique(c.column_number)[::-1].astype(int).tolist(),
        (ORANGE, BLUE, RED, GREEN) * 4,
        "os^D" * 4,
        strict=False,
    ):
        mine = c.column_number == number
        found, set_right = (
            (true + np.angle(np.exp(1j * (c.column_phases(wave) - true))))[mine]
            for wave in (c.found, c.refocused)
        )
        label = f"{chemical_symbols[number]} ({mine.sum()})"
        axes.plot(true[mine], found, marker, color=colour, markersize=5.5, markerfacecolor="none",
                  markeredgewidth=0.9, alpha=0.8)  # fmt: skip
        axes.plot(true[mine], set_right, marker, color=colour, markersize=4, alpha=0.85,
                  markeredgewidth=0, label=label)  # fmt: skip
    ends = [float(true.min()) - 0.1, float(true.max()) + 0.1]
    axes.plot(ends, ends, color=INK, linewidth=0.9)
    axes.set_xlabel("true phase at the column (rad)")
    axes.set_ylabel("restored phase (rad)")
    axes.legend(frameon=False, fontsize=9, title="heaviest element", title_fontsize=9)
    caption = (
        "The phase at every atomic column in view, restored against true, both within the band "
        "that the series can see. Open marks: as handed in; filled: focus and astigmatism set "
        "right. On the line the answer is right, and atoms can be counted by their phase. The "
        "heaviest columns suffer most from an error of focus: the wave there is weak, and a "
        "small change turns it far."
    )
    return Plate("Phases of the columns", caption, figure)


def _foci(dataset: Observed, c: Comparison) -> Plate:
    """Draw the foci from which the restored wave gives the images, beside the true ones."""
    nominal = np.asarray(dataset.settings["defoci_nm"], np.float64)
    actual = np.asarray(dataset.truth("focus")["actual_nm"], np.float64)
    found = _implied_foci(dataset, c.found)
    figure, (left, right) = plots(10.4, 3.6, 2)
    left.plot(nominal, actual, "-", color=ORANGE, linewidth=1.5, label="true")
    left.plot(nominal, found, "o", color=BLUE, markersize=4.5, label="from the restored wave")
    left.set_xlabel("nominal focus (nm)")
    left.set_ylabel("focus (nm)")
    left.legend(frameon=False)
    right.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
    right.plot(nominal, actual - nominal, "D-", color=ORANGE, markersize=4, linewidth=1.2,
               label="true")  # fmt: skip
    right.plot(nominal, found - nominal, "o", color=BLUE, markersize=4.5,
               label="from the restored wave")  # fmt: skip
    right.set_xlabel("nominal focus (nm)")
    right.set_ylabel("focus minus nominal focus (nm)")
    right.legend(frameon=False)
    away = found - actual
    caption = (
        "The focus at which the restored wave gives each image best, beside the true one; right, "
        "without the nominal value. The points should follow the line's ups and downs, which are "
        "the wandering of the focus during the series. A gap that is the same everywhere is the "
        f"common error that images can't tell: {away.mean():+.2f} nm on average, with a scatter of "
        f"{away.std():.2f} nm.".replace("-", "−")
    )
    return Plate("Focus, found and true", caption, figure, wide=True)


def _implied_foci(dataset: Observed, wave: Complexes) -> Floats:
    """Return the focus (nm) of each image at which a wave gives it with the least squares."""
    settings, pixel_nm = dataset.settings, pixel_size_of(dataset)
    ny, nx = wave.shape
    extent_A = (10 * ny * pixel_nm, 10 * nx * pixel_nm)
    named = {"c30_um": settings.get("c30_um") or 0.0, **dict(settings.get("aberrations") or {})}
    coefficients = Aberrations(**named).coefficients()
    aperture = settings.get("aperture_mrad")
    ky, kx = fft.fftfreq(ny, pixel_nm)[:, None], fft.fftfreq(nx, pixel_nm)[None, :]
    pixel = np.sinc(ky * pixel_nm) * np.sinc(kx * pixel_nm)
    beams = fft.fft2(wave, norm="forward", workers=1)
    drift = drift_of(dataset) - drift_of(dataset)[0]
    edge = int(np.ceil(0.6 / pixel_nm))
    core = (slice(edge, -edge), slice(edge, -edge))
    found = []
    for i, nominal_nm in enumerate(settings["defoci_nm"]):
        image = dataset.signal("image", i, i + 1)[0].astype(np.float64)
        ramp = np.exp(-2j * np.pi * (kx * drift[i, 0] + ky * drift[i, 1]))
        misfit = []
        for change_nm in TRIAL_FOCI_NM:
            model = expected_image(
                beams * ramp,
                extent_A=extent_A,
                energy_kev=float(settings["energy_kev"]),
                coefficients={**coefficients, "C10": 10 * (nominal_nm + change_nm)},
                shape=(ny, nx),
                aperture_mrad=aperture,
                focal_spread_A=10 * float(settings.get("focal_spread_nm") or 0.0),
                convergence_mrad=float(settings.get("convergence_mrad") or 0.0),
            )
            model = fft.ifft2(fft.fft2(model, workers=1) * pixel, workers=1).real[core]
            data = image[core]
            model = model * (data.mean() / model.mean())
            misfit.append(float(np.sum((data - model) ** 2)))
        at = int(np.clip(np.argmin(misfit), 1, len(misfit) - 2))
        before, here, after = misfit[at - 1 : at + 2]
        step = float(TRIAL_FOCI_NM[1] - TRIAL_FOCI_NM[0])
        rest = 0.5 * (before - after) / max(before + after - 2 * here, 1e-30)
        found.append(nominal_nm + TRIAL_FOCI_NM[at] + step * float(np.clip(rest, -1, 1)))
    return np.array(found, np.float64)


def _panels(n: int) -> tuple[Figure, list[Any]]:
    """Return a see-through figure with n pictures side by side."""
    figure = Figure(figsize=(11, 11 / n + 0.25), layout="constrained")
    figure.patch.set_alpha(0)
    axes = [figure.add_subplot(1, n, i + 1) for i in range(n)]
    for ax in axes:
        ax.set_axis_off()
    return figure, axes
