"""What truly happened in a movie, told as appearances and disappearances at sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from nanophantom.simcore.fields import Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SITE_NM = 0.05
"""Atoms closer than this across the beam stand at one site."""


@dataclass(frozen=True, eq=False)
class TrueEvents:
    """Appearances and disappearances of atoms or columns, in the order of time.

    Attributes
    ----------
    at_nm : (n, 2)
        Place (x, y), in the coordinates of the truth tables (frame 0 at zero drift).
    t_s : (n,)
        Time.
    kind : (n,)
        +1 appears, -1 vanishes.
    n_atoms : (n,)
        Atoms that came or went together.
    changes : (n,)
        Whether they are more than half of what stands there with them.
    stay_s : (n,)
        How long the site is left alone before or after, whichever is shorter; the movie's ends
        count as events.
    began_nm : (n, 2)
        Where these atoms stood at the beginning.
    unit : (n,)
        Number of the atoms' group: the two events of a hop have the same, and the same time.
    """

    at_nm: Floats
    t_s: Floats
    kind: Ints
    n_atoms: Ints
    changes: npt.NDArray[np.bool_]
    stay_s: Floats
    began_nm: Floats
    unit: Ints


def true_events(atoms: Table, events: Table, duration_s: float) -> TrueEvents:
    """Gather the truth's log of atoms into events of sites.

    Parameters
    ----------
    atoms, events
        Truth tables of these names.
    duration_s
        From the opening of the first shutter; what happens before or later is left out.
    """
    place = np.column_stack([atoms["x_nm"], atoms["y_nm"]]).astype(np.float64)
    began = place.copy()
    there = np.ones(len(place), np.bool_)
    t_s = np.asarray(events["t_s"], np.float64)
    atom = np.asarray(events["atom"], np.int64)
    goal = np.column_stack([events["to_x_nm"], events["to_y_nm"]]).astype(np.float64)
    rows: list[tuple[float, float, float, int, int, bool, float, float, int]] = []
    units = 0
    for moment in np.unique(t_s):
        now = np.flatnonzero(t_s == moment)
        for members in groups_of(place[atom[now]]):
            moved = now[members]
            who, leave = atom[moved], place[atom[moved]].mean(axis=0)
            before = _standing(place, there, leave)
            target = goal[moved]
            place[who] = np.where(np.isfinite(target), target, place[who])
            there[who] = np.isfinite(target[:, 0])
            seen = 0 <= moment <= duration_s
            home = began[who].mean(axis=0)
            if seen:
                changes = 2 * len(who) > before
                rows.append((moment, *leave, -1, len(who), changes, *home, units))
            kept = np.flatnonzero(np.isfinite(target[:, 0]))
            for part in groups_of(target[kept]) if len(kept) else []:
                came = target[kept[part]].mean(axis=0)
                if seen and np.hypot(*(came - leave)) > SITE_NM:
                    changes = 2 * len(part) > _standing(place, there, came)
                    rows.append((moment, *came, 1, len(part), changes, *home, units))
            units += 1
    table = np.array(rows, np.float64).reshape(-1, 9)
    at, time = table[:, 1:3], table[:, 0]
    return TrueEvents(
        at_nm=at,
        t_s=time,
        kind=table[:, 3].astype(np.int64),
        n_atoms=table[:, 4].astype(np.int64),
        changes=table[:, 5] == 1,
        stay_s=_stays(at, time, duration_s),
        began_nm=table[:, 6:8],
        unit=table[:, 8].astype(np.int64),
    )


def groups_of(xy_nm: Floats) -> list[Ints]:
    """Return the indices of points that stand together across the beam, one array a group."""
    pairs = cKDTree(xy_nm).query_pairs(SITE_NM, output_type="ndarray")
    edges = coo_matrix(
        (np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(xy_nm), len(xy_nm))
    )
    count, label = connected_components(edges, directed=False)
    return [np.flatnonzero(label == k) for k in range(count)]


def _standing(place: Floats, there: npt.NDArray[np.bool_], at: Floats) -> int:
    """Return how many atoms stand at a site."""
    near = np.hypot(*(place - at).T) <= SITE_NM
    return int(np.count_nonzero(near & there))


def _stays(at_nm: Floats, t_s: Floats, duration_s: float) -> Floats:
    """Return how long each event's site is left alone, before or after it."""
    stay = np.minimum(t_s, duration_s - t_s)
    for i in range(len(t_s)):
        same = np.hypot(*(at_nm - at_nm[i]).T) <= SITE_NM
        same[i] = False
        stay[i] = min(stay[i], np.abs(t_s[same] - t_s[i]).min(initial=np.inf))
    return stay
