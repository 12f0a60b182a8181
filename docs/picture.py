"""Draw the README's picture from a finished run: python docs/picture.py gold-on-ceria."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nanophantom.simcore.store import Dataset
from nanophantom.validation.grade import read_estimates, read_scores

data = Dataset(sys.argv[1])
step = data.settings["pixel_size_nm"]
columns, drift = data.truth("columns"), data.truth("drift")
found = read_estimates(data, "atomic-columns")
scores = read_scores(data)["atomic-columns"]
frame = data.signal("image", 0, 1)[0]
clean = data.ideal("image", 0)

centre = np.array([4.7, 5.3])  # nm, where particle and support meet
size = 4.0
x0, y0 = (centre - size / 2) / step
cut = np.s_[int(y0) : int(y0 + size / step), int(x0) : int(x0 + size / step)]
extent = (0, size, size, 0)

figure = Figure(figsize=(12, 4.3), layout="constrained")
left, middle, right, errors = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.8))
left.imshow(frame[cut], cmap="gray", extent=extent, vmax=3)
left.set_title(f"one counted frame, {data.settings['dose_e_per_A2']:g} e/Å²")
middle.imshow(clean[cut], cmap="gray", extent=extent)
middle.set_title("its noise-free truth")
right.imshow(clean[cut], cmap="gray", extent=extent, alpha=0.55)
shift = np.array([drift["dx_nm"][0], drift["dy_nm"][0]]) - (centre - size / 2)
asked = columns["number"] >= 29
right.plot(
    columns["x_nm"][asked] + shift[0],
    columns["y_nm"][asked] + shift[1],
    ".",
    c="#0072b2",
    ms=3,
    label="true",
)
corner = centre - size / 2
right.plot(
    found["x_nm"] - corner[0],
    found["y_nm"] - corner[1],
    "o",
    mfc="none",
    mec="#d55e00",
    ms=7,
    label="found",
)
right.set(xlim=(0, size), ylim=(size, 0))
right.set_title("columns: true and found")
right.legend(loc="upper right", fontsize=8)
for axes in (left, middle, right):
    axes.set(xticks=[], yticks=[])
    axes.plot([0.2, 1.2], [size - 0.2] * 2, "w-", lw=3)
    axes.text(0.7, size - 0.28, "1 nm", color="w", ha="center", va="bottom")

errors.axis("off")
lines = [
    f"recall  {scores['recall'].value:.3f}",
    f"precision  {scores['precision'].value:.3f}",
    f"error  {scores['rmse'].value:.1f} pm",
    f"physical limit  {scores['rmse'].limit:.1f} pm",
]
errors.text(0.0, 0.5, "\n\n".join(lines), fontsize=14, va="center")
figure.savefig(Path(__file__).parent / "gold-on-ceria.png", dpi=80)
