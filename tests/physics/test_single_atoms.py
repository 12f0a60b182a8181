"""Single atoms: a published image, and scattering that doesn't feel the grid."""

import numpy as np
import pytest

from nanophantom.simcore.electrons.constants import wavelength
from nanophantom.simcore.electrons.grid import Grid
from nanophantom.simcore.electrons.imaging import expected_image
from nanophantom.simcore.electrons.multislice import Multislice, exit_wave
from nanophantom.simcore.electrons.potential import PotentialBuilder


def test_five_single_atoms_of_kirkland() -> None:
    """C, Si, Cu, Au, U in a 50 Å box, bright field: the image lies between 0.7214 and 1.0299.

    E. J. Kirkland, Advanced Computing in Electron Microscopy, 2nd ed. (2010), figure 5.12 (0.72 to
    1.03): 200 kV, Cs = 1.3 mm, underfocus 700 Å, aperture 10.37 mrad, 512 x 512. The four digits
    are those of a direct sum of structure factors up to the Nyquist frequency of that sampling,
    5.12 1/Å (where 768 samples cut the potential), in the set-up of abTEM's test_kirkland.py:
    atoms at z = 4 Å, exit wave at 8 Å.
    """
    positions = np.array([[x, 25.0, 4.0] for x in (5.0, 15.0, 25.0, 35.0, 45.0)])
    grid = Grid((768, 768), (50.0, 50.0), k_max=3.41)
    wave = exit_wave([6, 14, 29, 79, 92], positions, grid, 200.0, depth_A=8.0, table="kirkland")
    image = expected_image(
        wave.wave_k,
        extent_A=wave.extent_A,
        energy_kev=200.0,
        coefficients={"C10": -700.0, "C30": 1.3e7},
        shape=(512, 512),
        aperture_mrad=10.37,
    )
    assert image.min() == pytest.approx(0.7214, abs=5e-4)
    assert image.max() == pytest.approx(1.0299, abs=5e-4)
    at_atoms = image[256, np.round(positions[:, 0] / 50 * 512).astype(int)]
    assert np.all(np.diff(at_atoms) < 0)  # the heavier, the darker


@pytest.mark.parametrize(("number", "tolerance"), [(6, 1e-4), (79, 5e-3)])
def test_high_angle_scattering_of_an_atom_does_not_depend_on_the_subpixel_position(
    number: int, tolerance: float
) -> None:
    """A 20 mrad probe on the atom, 200 kV, detector 60 to 180 mrad: spread below 0.5 % for gold."""
    energy, edge = 200.0, 10.0
    lam = wavelength(energy)
    grid = Grid.for_wave((edge, edge), k_max=0.18 / lam, oversampling=3)
    (dy, dx), (ky, kx) = grid.sampling_A, grid.wave_frequencies
    angle = lam * np.hypot(ky, kx)
    detector = (angle >= 0.06) & (angle <= 0.18)
    aperture = (angle <= 0.02) / np.sqrt(np.sum(angle <= 0.02))
    engine = Multislice(grid, energy, [number])
    builder = PotentialBuilder(grid, [number])
    signal = []
    for fraction_y, fraction_x in ((0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5), (0.3, 0.1), (0.7, 0.4)):
        y, x = (40 + fraction_y) * dy, (51 + fraction_x) * dx
        probe = aperture * np.exp(-2j * np.pi * (ky * y + kx * x))
        wave = engine.propagate(probe, [(builder.project([number], [x], [y]), 0.0)]).wave_k
        signal.append(np.sum(np.abs(wave[detector]) ** 2))
    assert np.ptp(signal) / np.mean(signal) < tolerance
