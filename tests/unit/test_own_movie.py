"""A person's own movie is localized with what the person knows of the camera."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from nanophantom.validation.own_image import analyse

SETTINGS = (
    "psf_sigma_nm: 130\ncamera: {offset_adu: 100, adu_per_electron: 2, quantum_efficiency: 1}\n"
)


@pytest.fixture
def movie(tmp_path):
    """Five frames with a spot of 2000 photons at x = 1210 nm, y = 830 nm, in readout units."""
    y, x = np.indices((20, 24)) * 100.0
    spot = np.exp(-((x - 1210) ** 2 + (y - 830) ** 2) / (2 * 130**2))
    photons = 5 + 2000 * spot / spot.sum()
    counts = np.random.default_rng(1).poisson(photons, (5, 20, 24))
    tifffile.imwrite(tmp_path / "mine.tif", (100 + 2 * counts).astype(np.uint16))
    (tmp_path / "known.yaml").write_text(SETTINGS)
    return tmp_path


def test_a_movie_is_localized_with_the_settings_of_a_file(movie):
    found = analyse(
        movie / "mine.tif", "localization", "100 nm", settings_file=movie / "known.yaml"
    )
    table = np.genfromtxt(found["table"], delimiter=",", names=True)
    assert found["n"] == 5
    assert list(table["frame"]) == [0, 1, 2, 3, 4]
    assert table["x_nm"].mean() == pytest.approx(1210, abs=8)
    assert table["y_nm"].mean() == pytest.approx(830, abs=8)
    assert table["photons"].mean() == pytest.approx(2000, rel=0.05)


def test_settings_that_are_none_are_refused(movie):
    (movie / "known.yaml").write_text("just words")
    with pytest.raises(ValueError, match=r"--settings: .*known.yaml holds no settings"):
        analyse(movie / "mine.tif", "localization", "100 nm", settings_file=movie / "known.yaml")
    (movie / "known.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"--settings: .*known.yaml can't be read: while parsing"):
        analyse(movie / "mine.tif", "localization", "100 nm", settings_file=movie / "known.yaml")
