"""The task localization: where single molecules shine, in every frame of a movie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nanophantom.validation.localization_scores import (
    BORDER_SIGMAS,
    LEAST_SNR,
    Compared,
    compare,
    crlb_ratio,
    crlb_ratio_z,
    efficiency,
    pixel_bias,
)
from nanophantom.validation.task import Estimates, Score, Scores, Task, require_tables

if TYPE_CHECKING:
    from nanophantom.validation.drawing import Plate
    from nanophantom.validation.task import Observed

Floats = npt.NDArray[np.float64]

NOTHING_ASKED = "not defined: no emitter shone brightly enough, away from the edge"
POSITIVE = ("uncertainty_nm", "uncertainty_x_nm", "uncertainty_y_nm", "uncertainty_z_nm")


class Localization(Task):
    """Find the molecules that shine in each frame, and where they are."""

    name = "localization"
    title = "Localization of single molecules"
    default_algorithm = "nanophantom.analysis.localize:localize"
    inputs = ("movie",)
    needs = ("dyes", "blinks")
    needs_because = "they come from the instrument smlm"
    columns = ("frame", "x_nm", "y_nm")
    optional_columns = (
        "z_nm", "photons", "background", "sigma_nm", "sigma_x_nm", "sigma_y_nm", *POSITIVE,
    )  # fmt: skip
    contract = f"""\
localize(movie, settings)
  -> {{"frame": (n,), "x_nm": (n,), "y_nm": (n,), optional "z_nm", "photons", "background",
      "sigma_nm", "sigma_x_nm", "sigma_y_nm", "uncertainty_nm", "uncertainty_x_nm",
      "uncertainty_y_nm", "uncertainty_z_nm": (n,)}}

Receives
  movie           ADU, shape (frames, ny, nx); sliced along the frames it is read from disk
  settings        a dict of nominal values: pixel_size_nm, psf_sigma_nm (a spot's standard deviation
                  in focus), exposure_s, camera (offset_adu, adu_per_electron, quantum_efficiency,
                  em_gain, read_noise_e, excess_noise, maps), calibration of an astigmatic lens
Returns
  frame           whole numbers from 0; a molecule that shines in five frames is found five times
  x_nm, y_nm      from the centre of pixel (0, 0), y points down, drift and all
  z_nm            above the focal plane
  photons         of the spot in this frame, on the camera; background likewise, a pixel
  sigma_nm        width of the spot; it isn't scored
  uncertainty_nm  standard uncertainty of x and of y (uncertainty_x_nm, uncertainty_y_nm if they
                  differ); uncertainty_z_nm likewise
Scored
  In each frame the nearest pair of a find and an emitter is matched, then the nearest of those
  left, up to 250 nm (and 500 nm along z if z_nm is told). Asked for are emitters with a
  signal-to-noise ratio N / sqrt(N + 4 pi sigma^2 b) of at least {LEAST_SNR:g} (in photoelectrons; with the
  camera's noise), at least {BORDER_SIGMAS:g} sigma from the frame's edge. Others may be found: a find of one,
  or at the edge, is neither right nor wrong. jaccard = hits / (hits + missed + false), recall,
  precision, f1; rmse_xy (of the 2-D distance), rmse_z; efficiency = 100 - sqrt((100 - 100 J)^2 +
  (alpha RMSE)^2), alpha 1 / nm for xy and 0.5 / nm for z (efficiency.axial); bias_x, bias_y,
  bias_z; photons_bias, photons_rmse, background_rmse; crlb_ratio = rms of error / Cramér-Rao bound
  over emitters with no other within 6 sigma; coverage = share of coordinates within 1.96 standard
  uncertainties; pixel_bias = rms of the mean error against the place between pixels.
  jaccard.all, rmse_xy.all, efficiency.all count every emitter and every find, as the SMLM challenge
  does; jaccard.optimal is that of the matching with most pairs.
"""  # noqa: E501

    def grade(self, estimates: Estimates, dataset: Observed) -> Scores:
        """Grade localizations against what shone in each frame."""
        return _scores(self.name, self.compare(estimates, dataset))

    def figures(self, dataset: Observed, estimates: Estimates, scores: Scores) -> list[Plate]:
        """Draw finds on frames, errors, recall, the images that they make and their correlation."""
        from nanophantom.validation import localization_figures

        return localization_figures.of_localizations(dataset, self.compare(estimates, dataset))

    def compare(self, estimates: Estimates, dataset: Observed) -> Compared:
        """Match finds and emitters: the ground of scores and figures."""
        found = self.read(estimates)
        require_tables(self, dataset, self.needs)
        if "emissions" not in dataset.frame_tables:
            raise ValueError(f"task {self.name} can't grade this dataset: no frame table emissions")
        frame = found["frame"]
        wrong = (frame != np.rint(frame)) | (frame < 0) | (frame >= dataset.n_frames)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"task {self.name} wants whole frames from 0 to {dataset.n_frames - 1}; "
                f"frame[{row}] is {frame[row]:g}"
            )
        for name in POSITIVE:
            if name in found and len(frame) and not (found[name] > 0).all():
                raise ValueError(
                    f"task {self.name} wants {name} above zero, got {found[name].min():g}"
                )
        return compare(found, dataset)


def _scores(task: str, c: Compared) -> Scores:
    own, everything = c.counts, c.counts_of_all
    asked = own.hits + own.missed
    claims = own.hits + own.false

    def why(hint: str) -> str:
        return hint if asked else NOTHING_ASKED

    scores = [
        Score("jaccard", own.jaccard, asked + own.false, "higher",
              hint=why(f"{own.hits} hits, {own.missed} missed, {own.false} false finds")),
        Score("recall", own.recall, asked, "higher",
              hint=why(f"{own.hits} of the {asked} emitters that are asked for were found")),
        Score("precision", own.precision, claims, "higher",
              hint=why(f"{own.hits} of {claims} finds are emitters")),
        Score("f1", own.f1, asked, "higher",
              hint=why("recall and precision in one number (harmonic mean)")),
        *_places(c),
        Score("jaccard", everything.jaccard, len(c.true) + everything.false, "higher",
              group="all", hint="as the challenge counts: every emitter, however dim"
              if len(c.true) else "not defined: no emitter shone in view"),
        Score("jaccard", c.counts_at_best.jaccard, asked + own.false, "higher", group="optimal",
              hint=why("finds matched so that there are as many pairs as can be")),
        *_by_neighbours(c),
        *_light(c),
    ]  # fmt: skip
    return Scores(task, tuple(scores), tuple(_notes(c)))


def _places(c: Compared) -> list[Score]:
    """Return scores of the places: errors, bias, efficiency, bounds, coverage."""
    n, own = len(c.pairs), c.counts
    if not n:
        hint = "not defined: none was found" if c.asked.any() else NOTHING_ASKED
        return [Score("rmse_xy", None, 0, "lower", "nm", hint=hint)]
    rows, limit = c.bounded
    error = c.errors_nm()
    rmse = _rms(np.hypot(*error.T))
    bias = error.mean(axis=0)
    coverage = _coverage(c, np.ones(n, bool))
    scores = [
        Score("rmse_xy", rmse, n, "lower", "nm",
              limit=_rms(np.hypot(limit.x_nm, limit.y_nm)) if len(rows) else None,
              bias=float(np.hypot(*bias)), spread=float(np.sqrt(error.var(axis=0).sum())),
              coverage=coverage, hint="typical distance from the truth (root mean square)"),
        Score("efficiency", efficiency(own.jaccard or 0.0, rmse), n, "higher", "%",
              hint="the challenge's figure of merit: Jaccard index and lateral error in one"),
        *(
            Score(f"bias_{name}", float(abs(b)), n, "lower", "nm",
                  hint=f"on average finds lie {abs(b):.2g} nm too far {way[int(b < 0)]}")
            for name, b, way in zip("xy", bias, (("right", "left"), ("down", "up")), strict=True)
        ),
    ]  # fmt: skip
    ratio, alone = crlb_ratio(c)
    if ratio is not None:
        scores.append(Score("crlb_ratio", ratio, alone, "lower", limit=1.0,
                            hint="error of isolated emitters over the least possible"))  # fmt: skip
    if coverage is not None:
        scores.append(Score("coverage", coverage, n, "higher", limit=0.95,
                            hint="0.95 if the quoted uncertainties are honest; less: too sure, "
                            "more: too cautious"))  # fmt: skip
    waves = pixel_bias(c)
    if waves is not None:
        scores.append(Score("pixel_bias", waves.rms_nm, int(c.isolated_pairs.sum()), "lower", "nm",
                            hint="error that depends on where between the pixels an emitter lies; "
                            "chance alone shows as much with "
                            f"p = {waves.p_value:.2g}"))  # fmt: skip
    scores += _heights(c)
    scores += _isolated(c, error)
    pairs = c.all_pairs
    of_all = _rms(np.hypot(*c.errors_nm(pairs).T))
    scores += [
        Score("rmse_xy", of_all, len(pairs), "lower", "nm", group="all",
              hint="of every emitter that is matched, however dim"),
        Score("efficiency", efficiency(c.counts_of_all.jaccard or 0.0, of_all), len(pairs),
              "higher", "%", group="all", hint="as the challenge counts"),
    ]  # fmt: skip
    return scores


def _isolated(c: Compared, error: Floats) -> list[Score]:
    """Return error and coverage of the emitters with their boxes for themselves."""
    alone = c.isolated_pairs
    if not alone.any():
        return []
    rows, limit = c.bounded
    mine, coverage = alone[rows], _coverage(c, alone)
    scores = [
        Score("rmse_xy", _rms(np.hypot(*error[alone].T)), int(alone.sum()), "lower", "nm",
              group="isolated", coverage=coverage,
              limit=_rms(np.hypot(limit.x_nm, limit.y_nm)[mine]) if mine.any() else None,
              hint="of emitters with no other emitter within 6 widths of a spot")
    ]  # fmt: skip
    if coverage is not None:
        scores.append(Score("coverage", coverage, int(alone.sum()), "higher", group="isolated",
                            limit=0.95, hint="of the same emitters"))  # fmt: skip
    return scores


def _heights(c: Compared) -> list[Score]:
    error = c.errors_z_nm()
    if error is None:
        return []
    rows, limit = c.bounded
    n, rmse, bias = len(error), _rms(error), float(error.mean())
    told = c.of_pairs("uncertainty_z_nm")
    coverage = None if told is None else float(np.mean(np.abs(error) <= 1.96 * told))
    scores = [
        Score("rmse_z", rmse, n, "lower", "nm",
              limit=None if limit.z_nm is None or not len(rows) else _rms(limit.z_nm),
              bias=bias, spread=float(error.std()), coverage=coverage,
              hint="typical error of a height (root mean square)"),
        Score("efficiency", efficiency(c.counts.jaccard or 0.0, rmse, 0.5), n, "higher", "%",
              group="axial", hint="Jaccard index and error of the height in one"),
        Score("bias_z", abs(bias), n, "lower", "nm",
              hint=f"on average finds lie {abs(bias):.2g} nm too {'high' if bias > 0 else 'low'}"),
    ]  # fmt: skip
    ratio, alone = crlb_ratio_z(c)
    if ratio is not None:
        scores.append(Score("crlb_ratio_z", ratio, alone, "lower", limit=1.0,
                            hint="of the heights"))  # fmt: skip
    if coverage is not None:
        scores.append(Score("coverage_z", coverage, n, "higher", limit=0.95,
                            hint="of the heights"))  # fmt: skip
    return scores


def _by_neighbours(c: Compared) -> list[Score]:
    """Return recall of emitters with their boxes for themselves, and of the others."""
    scores = []
    for group, which in (("isolated", c.isolated), ("crowded", ~c.isolated)):
        mine = c.asked & which
        if mine.any():
            told = "no other emitter" if group == "isolated" else "another emitter"
            scores.append(
                Score("recall", float(c.hit[mine].mean()), int(mine.sum()), "higher", group=group,
                      hint=f"of emitters with {told} within 6 widths of a spot")
            )  # fmt: skip
    return scores


def _light(c: Compared) -> list[Score]:
    """Return scores of photons and background; none where two cameras share them."""
    scores: list[Score] = []
    if not len(c.pairs) or not c.imaging.one_camera:
        return scores
    rows, limit = c.bounded
    photons, background = c.of_pairs("photons"), c.of_pairs("background")
    if photons is not None:
        true = c.true_of_pairs("photons")
        error = photons - true
        mine = c.isolated_pairs
        for group, which, in_sample in (
            (None, np.ones(len(error), bool), np.ones(len(rows), bool)),
            ("isolated", mine, mine[rows]),
        ):
            if not which.any():
                continue
            e, n = error[which], int(which.sum())
            percent = 100 * float(e.sum() / true[which].sum())
            scores += [
                Score("photons_bias", abs(percent), n, "lower", "%", group=group,
                      hint=f"{abs(percent):.2g} % {'more' if percent > 0 else 'less'} light than "
                      "there is, over all"),
                Score("photons_rmse", _rms(e), n, "lower", "photons", group=group,
                      limit=_rms(limit.photons[in_sample]) if in_sample.any() else None,
                      bias=float(e.mean()), spread=float(e.std()),
                      hint="typical error of a spot's photons"),
            ]  # fmt: skip
    if background is not None:
        error = background - c.true_of_pairs("background")
        scores.append(
            Score("background_rmse", _rms(error), len(error), "lower", "photons/pixel",
                  limit=_rms(limit.background) if len(rows) else None, bias=float(error.mean()),
                  spread=float(error.std()), hint="typical error of the background under a spot")
        )  # fmt: skip
    return scores


def _notes(c: Compared) -> list[str]:
    free = len(c.true) - int(c.asked.sum())
    notes = [
        f"{free} of {len(c.true)} emitters in view count neither way: their signal-to-noise ratio "
        f"is below {LEAST_SNR:g} (most shine for a part of the frame only), or they lie less than "
        f"{BORDER_SIGMAS:g} widths of a spot from the frame's edge. The scores named .all count "
        "them."
    ]
    crowded = int((c.asked & ~c.isolated).sum())
    if crowded:
        notes.append(
            f"{crowded} of the {int(c.asked.sum())} emitters that are asked for have another one "
            "within 6 widths of a spot. What recall their overlap allows isn't known: no limit is "
            "given."
        )
    if not c.imaging.one_camera:
        notes.append(
            "Two cameras share the photons; from one movie alone neither photons nor the "
            "Cramér-Rao bound are judged."
        )
    elif len(c.pairs):
        notes.append(
            "Limits are root mean squares of Cramér-Rao bounds of single Gaussian spots as wide as "
            "the operator's beads, place, photons and background unknown at once, with the true "
            "light and the camera's noise; neighbours and the spot's true shape aren't in them."
        )
    return notes


def _coverage(c: Compared, of: npt.NDArray[np.bool_]) -> float | None:
    """Return the share of x and y of some pairs within 1.96 of their standard uncertainties."""
    both = c.of_pairs("uncertainty_nm")
    x, y = c.of_pairs("uncertainty_x_nm"), c.of_pairs("uncertainty_y_nm")
    x, y = (both if x is None else x), (both if y is None else y)
    if x is None or y is None:
        return None
    return float(np.mean(np.abs(c.errors_nm()[of]) <= 1.96 * np.column_stack([x, y])[of]))


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
