"""Figures of the task nanomechanics: maps, distributions, fitted curves, a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.probes import contact
from nanophantom.validation.drawing import BLUE, GREEN, INK, ORANGE, RED, Plate, plot, plots
from nanophantom.validation.force_figures import (
    LOG_FROM,
    MATERIAL_COLOURS,
    baseline_of,
    curve_of,
    logarithmic,
    pixel_of,
    typical,
)
from nanophantom.validation.height_drawing import Map, height_maps, profiles, span_of, steepest_row

if TYPE_CHECKING:
    from nanophantom.validation.task import Observed
    from nanophantom.validation.tasks.nanomechanics import Comparison

Floats = npt.NDArray[np.float64]

BINS = 60
DRAWN_SIGMA = 4.0
"""Half the width of a histogram, in the scatter of what it shows."""


def of_nanomechanics(dataset: Observed, c: Comparison) -> list[Plate]:
    """Draw maps of truth, answer and error, distributions, fitted curves, and a profile."""
    if not len(c.index):
        return []
    return [_maps(dataset, c), _distributions(c), _fits(dataset, c), _profile(dataset, c)]


def _maps(dataset: Observed, c: Comparison) -> Plate:
    modulus, contacts = c.map_of(c.modulus_gpa), c.map_of(c.contact_nm)
    true_modulus = c.true_modulus_gpa.reshape(c.shape)
    true_contact = c.true_contact_nm.reshape(c.shape)
    of_modulus, of_contact = span_of(true_modulus, modulus), span_of(true_contact, contacts)
    maps = [
        Map("contact height: true", true_contact, span=of_contact),
        Map("found", contacts, span=of_contact),
        Map("found − true", contacts - true_contact, signed=True),
        Map("modulus: true", true_modulus, "GPa", span=of_modulus),
        Map("found", modulus, "GPa", span=of_modulus),
        Map("found / true − 1", 100 * (modulus / true_modulus - 1), "%", signed=True),
    ]
    sticky = np.nan_to_num(c.true_adhesion_nn).max() > 0
    if sticky:
        adhesion, true_adhesion = c.map_of(c.adhesion_nn), c.true_adhesion_nn.reshape(c.shape)
        of_adhesion = span_of(true_adhesion, adhesion)
        maps += [
            Map("adhesion: true", true_adhesion, "nN", span=of_adhesion),
            Map("found", adhesion, "nN", span=of_adhesion),
            Map("found − true", adhesion - true_adhesion, "nN", signed=True),
        ]
    figure, axes = height_maps(maps, pixel_of(dataset), across=3)
    if 0 < LOG_FROM * of_modulus[0] < of_modulus[1]:
        for one in axes[3:5]:
            logarithmic(one, of_modulus)
    missing = c.shape[0] * c.shape[1] - len(c.index)
    caption = (
        "Truth, answer and error of each quantity. Errors should be grain of both signs, more of "
        "it where the sample is harder to measure: an outline, or a material that is red or blue "
        "as a whole, is cross-talk, one property of the sample taken for another."
    )
    if missing:
        caption += f" White: {missing} curves without an answer."
    return Plate("Maps", caption, figure, raster=True, wide=True)


def _distributions(c: Comparison) -> Plate:
    figure, (left, middle, right) = plots(10.8, 3.4, 3)
    on = c.material[c.index]
    quantities = (
        (left, 100 * c.log_error, "modulus", 100.0, "ln(found / true) (%)"),
        (middle, c.contact_nm - c.true_contact_nm[c.index], "contact_nm", 1.0,
         "contact height, found − true (nm)"),
        (right, c.adhesion_nn - c.true_adhesion_nn[c.index], "adhesion_nn", 1.0,
         "adhesion, found − true (nN)"),
    )  # fmt: skip
    for axes, error, name, unit, label in quantities:
        fine = np.isfinite(error)
        bounds = [unit * getattr(x, name) for x in c.limits.values() if x is not None]
        scatter = max([float(np.percentile(np.abs(error[fine]), 95)) / 2 if fine.any() else 0.0,
                       *bounds, 1e-12])  # fmt: skip
        edges = np.linspace(-DRAWN_SIGMA * scatter, DRAWN_SIGMA * scatter, BINS + 1)
        width = edges[1] - edges[0]
        x = np.linspace(edges[0], edges[-1], 600)
        for m, material in c.names.items():
            colour = MATERIAL_COLOURS[m % len(MATERIAL_COLOURS)]
            of_it = np.clip(error[fine & (on == m)], edges[0], edges[-1])
            if not len(of_it):
                continue
            axes.hist(of_it, edges, color=colour, alpha=0.45, label=material, density=True)
            limit = c.limits[m]
            if limit is not None and getattr(limit, name) > width / 4:
                sigma = unit * getattr(limit, name)
                bell = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
                axes.plot(x, bell, color=colour, linewidth=1.3)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(label)
        axes.set_yticks([])
    left.set_ylabel("share of the curves")
    left.legend(fontsize=8.5, frameon=False, loc="upper left")
    caption = (
        "Errors of all curves, by material; those beyond the axes are counted in the last bin. "
        "Lines: the narrowest bells that the noise allows (Cramér-Rao). A stiff material bends the "
        "lever nearly as much as a rigid one, so its modulus scatters more."
    )
    return Plate("How far off", caption, figure, wide=True)


def _fits(dataset: Observed, c: Comparison) -> Plate:
    chosen = {m: i for m, i in typical(dataset).items() if i in set(c.index.tolist())}
    figure, all_axes = plots(10.8, 4.0, max(len(chosen), 1))
    k = float(dataset.settings["stiffness_n_per_m"])
    for axes, (m, i) in zip(all_axes, chosen.items(), strict=False):
        answer = int(np.flatnonzero(c.index == i)[0])
        zero = float(c.contact_nm[answer])
        for name, colour, word in (("approach", BLUE, "approach"), ("retract", RED, "retract")):
            z, x = curve_of(dataset, f"z_{name}", i), curve_of(dataset, name, i)
            flat = x - baseline_of(z, x, zero)
            axes.plot(zero - z - flat, k * flat, ".", color=colour, markersize=3, label=word)
        found = _law(dataset, c.modulus_gpa[answer], c.adhesion_nn[answer])
        true = _law(dataset, c.true_modulus_gpa[i], c.true_adhesion_nn[i])
        deepest = float(c.indentation_nm[i])
        delta = np.linspace(0.0, 1.03 * deepest, 300)
        off = zero - float(c.true_contact_nm[i])
        axes.plot(delta, found(delta), color=INK, linewidth=1.6, label="found", zorder=5)
        axes.plot(delta + off, true(delta), color=GREEN, linewidth=1.4, linestyle="--",
                  label="true", zorder=6)  # fmt: skip
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set_xlim(-1.5 * deepest, 1.15 * deepest)
        axes.set_title(
            f"{c.names[m]}: {c.modulus_gpa[answer]:.3g} GPa (true {c.true_modulus_gpa[i]:.3g})",
            fontsize=10.5,
        )
        axes.set_xlabel("indentation (nm)")
        axes.set_ylabel("force (nN)")
    all_axes[0].legend(fontsize=8.5, frameon=False, loc="upper left")
    caption = (
        "The same curves as force over indentation: deflection times stiffness over what the base "
        "has come down less what the lever bent. Lines: the law of contact with the numbers found "
        "and with the true ones. Noise moves the points along the lever's slope, not straight up, "
        "which is why fits are made to deflections."
    )
    return Plate("The law of contact", caption, figure, wide=True)


def _law(dataset: Observed, modulus_gpa: float, adhesion_nn: float) -> Any:
    """Return force over indentation by the nominal law, tip and Poisson's ratio."""
    settings = dataset.settings
    law, radius = str(settings["law"]), float(settings["tip_radius_nm"])
    e_star = float(modulus_gpa) / (1 - float(settings["poisson_ratio"]) ** 2)
    pull = max(float(np.nan_to_num(adhesion_nn)), 0.0)
    if law == "sneddon":
        angle = float(settings["tip"]["half_angle_deg"])
        return lambda delta: contact.cone_force_nn(delta, angle, e_star)
    if law == "jkr":
        w = pull / (contact.PULL_OFF["jkr"] * np.pi * radius)
        return lambda delta: contact.jkr_force_nn(delta, radius, e_star, w, "unloading")
    less = pull if law == "dmt" else 0.0
    return lambda delta: contact.hertz_force_nn(delta, radius, e_star) - less


def _profile(dataset: Observed, c: Comparison) -> Plate:
    surface = np.asarray(dataset.truth("surface")["height_nm"], np.float64)
    row = steepest_row(surface)
    step = pixel_of(dataset)[1]
    x = np.asarray(np.arange(c.shape[1]) * step, np.float64)
    contacts, true = c.map_of(c.contact_nm)[row], c.true_contact_nm.reshape(c.shape)[row]
    # at constant force: how low the tip gets
    pressed = true - c.indentation_nm.reshape(c.shape)[row]
    figure, axes = plot(10.8, 3.6)
    profiles(
        axes,
        x,
        {
            "true surface": (surface[row], {"color": INK, "linewidth": 1.6}),
            "dilated by the tip": (true, {"color": GREEN, "linewidth": 1.2}),
            "contact heights found": (
                contacts,
                {"color": BLUE, "linestyle": "none", "marker": "o", "markersize": 3.5},
            ),
            "tip at the trigger force": (pressed, {"color": ORANGE, "linewidth": 1.2,
                                                   "linestyle": "--"}),
        },
    )  # fmt: skip
    if c.contact_sigma_nm is not None:
        sigma = c.map_of(c.contact_sigma_nm)[row]
        axes.fill_between(x, contacts - 1.96 * sigma, contacts + 1.96 * sigma, color=BLUE,
                          alpha=0.25, linewidth=0)  # fmt: skip
    caption = (
        f"The row at y = {row * step:.4g} nm. An image at constant force (orange) shows stiffness "
        "as height: soft places look lower by what the tip sinks in. Contact heights don't; "
        "between them and the true surface lies the tip's shape only."
    )
    return Plate("Stiffness isn't height", caption, figure, wide=True)
