"""Polynomials fitted to the pixels of an image that a mask leaves, as a whole or row by row.

They are fitted as Legendre polynomials over the image, whose normal equations are well conditioned
as long as the pixels fix the polynomial at all; if not, that is an error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SINGULAR = 1e-12
"""Smallest eigenvalue of a fit over the largest: below, the pixels don't fix the polynomial."""


def background(z: Floats, ground: Bools, degree_x: int, degree_y: int, total: int | None) -> Floats:
    """Return the least-squares polynomial, terms x**i y**j, of the pixels that are ground.

    Parameters
    ----------
    z, ground : (ny, nx)
        Heights, and which are fitted.
    degree_x, degree_y, total
        Largest i, j and i + j; no limit to the sum if it is None.

    Raises
    ------
    ValueError
        A degree is too high for the shape, or the ground doesn't fix the polynomial.
    """
    y, x = basis(z.shape[0], degree_y), basis(z.shape[1], degree_x)
    fitted = terms(degree_x, degree_y, total).ravel()
    weights = ground.astype(np.float64)
    p, q = y.shape[1], x.shape[1]
    gram = (_squares(y).T @ weights @ _squares(x)).reshape(p, p, q, q)
    gram = gram.transpose(0, 2, 1, 3).reshape(p * q, p * q)[np.ix_(fitted, fitted)]
    _want_regular(gram, "the image")
    coefficients = np.zeros(p * q)
    # The second time what rounding left in the normal equations.
    for _ in range(2):
        rest = weights * (z - y @ coefficients.reshape(p, q) @ x.T)
        coefficients[fitted] += np.linalg.solve(gram, (y.T @ rest @ x).ravel()[fitted])
    return np.asarray(y @ coefficients.reshape(p, q) @ x.T)


def row_backgrounds(z: Floats, ground: Bools, degree: int) -> Floats:
    """Return the least-squares polynomial in x of each row's ground, all rows together (ny, nx).

    Raises
    ------
    ValueError
        The degree is too high for the shape, or the ground of a row doesn't fix the polynomial.
    """
    x = basis(z.shape[1], degree)
    want_rows(ground, degree + 1)
    weights = ground.astype(np.float64)
    gram = (weights @ _squares(x)).reshape(len(z), degree + 1, degree + 1)
    _want_regular(gram, "a row")
    fitted = np.zeros_like(z)
    for _ in range(2):
        moments = (weights * (z - fitted)) @ x
        fitted += np.linalg.solve(gram, moments[..., None])[..., 0] @ x.T
    return fitted


def basis(n: int, degree: int) -> Floats:
    """Return Legendre polynomials on n pixels, (n, degree + 1): well conditioned."""
    if not 0 <= degree < n:
        raise ValueError(f"degree must be 0 or more and below the {n} pixels, got {degree}")
    return np.asarray(np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree), np.float64)


def terms(degree_x: int, degree_y: int, total: int | None) -> Bools:
    """Return which products (j of y, i of x) are fitted."""
    power = np.add.outer(np.arange(degree_y + 1), np.arange(degree_x + 1))
    return np.asarray(power <= (degree_x + degree_y if total is None else total))


def want_rows(ground: Bools, count: int) -> None:
    """Raise a ValueError unless every row has so many pixels of ground."""
    short = np.flatnonzero(np.count_nonzero(ground, axis=1) < count)
    if len(short):
        raise ValueError(f"row {short[0]} has fewer than {count} pixels that the mask leaves")


def _squares(columns: Floats) -> Floats:
    """Return the products of every two columns, (n, columns**2)."""
    return np.asarray(np.einsum("ni,nk->nik", columns, columns).reshape(len(columns), -1))


def _want_regular(gram: Floats, what: str) -> None:
    eigenvalues = np.linalg.eigvalsh(gram)
    if np.any(eigenvalues[..., 0] < SINGULAR * eigenvalues[..., -1]):
        raise ValueError(
            f"the pixels that the mask leaves of {what} do not fix the polynomial: "
            "mask less or lower the degree"
        )
