"""The honeycomb lattice by its integers: sites, neighbours, vacancies and the rim of a hole.

A site (i, j, s) lies at i a1 + j a2 + s (a1 + a2) / 3 with s = 1 or 2; at s = 0 lies the middle of
a hexagon. a1 and a2, 60 degrees apart, are rows of the lattice. Random numbers hang on the
integers and on the layer, so a site keeps its own whatever view is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanophantom.simcore.atoms import Floats, Ints, Window
from nanophantom.simcore.streams import numbers_of_places

Bools = npt.NDArray[np.bool_]

# From a site with s = 1 to its three neighbours with s = 2; the way back is the opposite.
NEAREST: Ints = np.array([[0, 0, 1], [-1, 0, 1], [0, -1, 1]])
SECOND: Ints = np.array([[1, 0, 0], [0, 1, 0], [-1, 1, 0], [-1, 0, 0], [0, -1, 0], [1, -1, 0]])
MOST_SITES = 30_000_000
"""A view that holds more sites of a layer is refused."""
RIM_NM = 0.5
"""No vacancy lies nearer to a hole's edge, so that the atoms of the edge keep two neighbours."""


def close_sites(sites: Ints) -> tuple[Ints, Ints]:
    """Return the three nearest (n, 3, 3) and the six second neighbours (n, 6, 3) of sites."""
    way = np.where(sites[:, 2] == 1, 1, -1)[:, None, None].astype(np.int64)
    return np.asarray(sites[:, None] + way * NEAREST), np.asarray(sites[:, None] + SECOND)


@dataclass(frozen=True)
class Honeycomb:
    """One layer.

    Attributes
    ----------
    bond_nm
        Distance of neighbours.
    rotation_deg
        Angle from +x towards +y to a1, the zigzag direction.
    shift
        The layer is moved by so many (a1 + a2) / 3: 1 puts it in the position B over A.
    number
        Which layer; it chooses the random numbers.
    """

    bond_nm: float
    rotation_deg: float = 0.0
    shift: int = 0
    number: int = 0

    @property
    def vectors_nm(self) -> Floats:
        """a1 and a2 as rows, shape (2, 2)."""
        angles = np.deg2rad(self.rotation_deg) + np.array([0.0, np.pi / 3])
        directions = np.column_stack([np.cos(angles), np.sin(angles)])
        return np.asarray(np.sqrt(3) * self.bond_nm * directions)

    def places(self, sites: npt.NDArray[np.float64] | Ints) -> Floats:
        """Return (x, y) of sites in nm, shape (n, 2); s may be any number."""
        i, j, s = np.asarray(sites, np.float64).T
        third = (s + self.shift) / 3
        a1, a2 = self.vectors_nm
        # Written out, for the same bits whatever the number of rows.
        first, second = i + third, j + third
        return np.column_stack([first * a1[0] + second * a2[0], first * a1[1] + second * a2[1]])

    def check_size(self, window: Window) -> None:
        """Raise ValueError if a window holds more than thirty million sites."""
        cell = np.sqrt(27) / 2 * self.bond_nm**2
        if not window.width_nm * window.height_nm < MOST_SITES * cell / 2:
            raise ValueError(
                f"a view of {window.width_nm:g} x {window.height_nm:g} nm holds more than "
                f"{MOST_SITES:,} atoms of one layer; lower the field of view"
            )

    def sites_within(self, window: Window, kinds: tuple[int, ...] = (1, 2)) -> Ints:
        """Return the sites (i, j, s) in a window, shape (n, 3), in the order of their integers.

        Raises
        ------
        ValueError
            The window holds more than thirty million sites.
        """
        self.check_size(window)
        corners = np.array(
            [(x, y) for x in (window.x0_nm, window.x1_nm) for y in (window.y0_nm, window.y1_nm)]
        )
        share = corners @ np.linalg.inv(self.vectors_nm) - self.shift / 3
        low, high = np.floor(share.min(axis=0)) - 1, np.ceil(share.max(axis=0)) + 1
        j = np.arange(low[1], high[1] + 1)
        i = np.arange(low[0], high[0] + 1)
        rows = []
        for row in j:  # one row of cells at a time: a slanted view needs few of all these cells
            sites = np.stack(
                [part.ravel() for part in np.meshgrid(i, [row], kinds, indexing="ij")], axis=1
            )
            x, y = self.places(sites).T
            rows.append(sites[window.holds(x, y)])
        return np.concatenate(rows).astype(np.int64)

    def numbers(self, sites: Ints, key: np.uint64) -> Floats:
        """Return one uniform random number for each site, whatever the others, shape (n,)."""
        place = sites.astype(np.float64)
        place[:, 2] += 4 * self.number
        return numbers_of_places(place, key, 1)[:, 0]

    def vacant(self, sites: Ints, share: float, key: np.uint64) -> Bools:
        """Say which sites are vacancies: this share of all, no two of them near each other.

        No site has two vacant neighbours: of candidates that are first or second neighbours the
        one with the lowest number stays (B. Matern's second hard-core process, Meddelanden fran
        Statens Skogsforskningsinstitut 49 (1960) 5). With m = 9 rivals a site, candidates of the
        share q leave (1 - (1 - q)^(m + 1)) / (m + 1), which is inverted here.
        """
        if share == 0:
            return np.zeros(len(sites), bool)
        rivals = len(NEAREST) + len(SECOND)
        candidates = 1 - (1 - (rivals + 1) * share) ** (1 / (rivals + 1))
        number = self.numbers(sites, key)
        vacant = number < candidates
        near = np.concatenate(close_sites(sites[vacant]), axis=1)
        others = self.numbers(near.reshape(-1, 3), key).reshape(-1, rivals)
        vacant[vacant] = number[vacant] < others.min(axis=1)
        return np.asarray(vacant)

    def dangling(self, x_nm: float, y_nm: float, radius_nm: float) -> Ints:
        """Return the atoms at the rim of a round hole that have one neighbour or none, (n, 3).

        They are taken away until every atom has two neighbours at least.
        """
        margin = radius_nm + RIM_NM + 2 * self.bond_nm
        sites = self.sites_within(
            Window(x_nm - margin, x_nm + margin, y_nm - margin, y_nm + margin)
        )
        x, y = self.places(sites).T
        distance = np.hypot(x - x_nm, y - y_nm)
        index = {tuple(site): k for k, site in enumerate(sites.tolist())}
        alive = distance >= radius_nm
        rim = np.flatnonzero(alive & (distance < radius_nm + RIM_NM))
        nearest = np.array(
            [[index[tuple(n)] for n in three] for three in close_sites(sites[rim])[0].tolist()]
        ).reshape(-1, 3)
        taken: list[int] = []
        while len(loose := rim[alive[rim] & (alive[nearest].sum(axis=1) < 2)]):
            alive[loose] = False
            taken.extend(loose.tolist())
        return sites[np.sort(np.array(taken, np.int64))]


def among(sites: Ints, chosen: Ints) -> Bools:
    """Say which sites are among the chosen ones."""
    if not len(chosen):
        return np.zeros(len(sites), bool)
    return np.isin(_code(sites), _code(chosen))


def _code(sites: Ints) -> Ints:
    """Return one integer for each site."""
    i, j, s = sites.T
    return np.asarray(((i + 2**28) << 32) + ((j + 2**28) << 2) + s)
