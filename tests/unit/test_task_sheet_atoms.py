"""The task sheet-atoms: single atoms are asked for; those that leave neither count nor cost."""

from types import SimpleNamespace

import numpy as np

from nanophantom.validation.tasks import find_task

TASK = find_task("sheet-atoms")
PIXEL_NM, SIDE, BOND_NM = 0.0125, 200, 0.142
FRAMES = 4


def sheet():
    """Return the atoms of a honeycomb in view, shape (n, 2)."""
    a = np.sqrt(3) * BOND_NM
    i, j, s = (v.ravel() for v in np.meshgrid(np.arange(-20, 30), np.arange(-20, 30), [1, 2]))
    x = (i + s / 3 + (j + s / 3) / 2) * a
    y = (j + s / 3) * a * np.sqrt(3) / 2
    seen = (x > 0.05) & (y > 0.05) & (x < SIDE * PIXEL_NM - 0.07) & (y < SIDE * PIXEL_NM - 0.07)
    return np.column_stack([x, y])[seen]


ATOMS = sheet()
LOST = int(np.argmin(np.hypot(*(ATOMS - ATOMS.mean(axis=0)).T)))


def observed():
    pixel = np.arange(SIDE) * PIXEL_NM
    bells = [np.exp(-((pixel[None] - ATOMS[:, k, None]) ** 2) / 2 / 0.03**2) for k in (0, 1)]
    image = 100 + 100 * bells[1].T @ bells[0]
    n = len(ATOMS)
    tables = {
        "columns": {"x_nm": ATOMS[:, 0], "y_nm": ATOMS[:, 1], "n_atoms": np.ones(n, int),
                    "number": np.full(n, 6), "extent_nm": np.zeros(n)},
        "drift": {"dx_nm": np.zeros(FRAMES), "dy_nm": np.zeros(FRAMES)},
        "noise_free": {"image": image},
        "events": {"t_s": [1.0], "atom": [LOST], "from_x_nm": ATOMS[[LOST], 0],
                   "from_y_nm": ATOMS[[LOST], 1], "to_x_nm": [np.nan], "to_y_nm": [np.nan],
                   "lost": [True]},
    }  # fmt: skip
    stack = np.random.default_rng(4).poisson(np.broadcast_to(image, (FRAMES, SIDE, SIDE)))
    return SimpleNamespace(
        n_frames=FRAMES,
        settings={"pixel_size_nm": PIXEL_NM},
        signal=lambda name, a=0, b=None: stack.astype(np.uint16)[a:b],
        truth_tables=tuple(tables),
        truth=lambda table: tables[table],
    )


DATA = observed()


def answer(which):
    return {"x_nm": ATOMS[which, 0], "y_nm": ATOMS[which, 1]}


def test_single_atoms_are_targets_here_and_not_of_atomic_columns():
    """The same data: every inner atom but the lost one is asked for; columns need two atoms."""
    inner = ((ATOMS >= 0.2) & (ATOMS <= (SIDE - 1) * PIXEL_NM - 0.2)).all(axis=1)
    everything = answer(np.arange(len(ATOMS)))
    assert TASK.grade(everything, DATA)["recall"].n == inner.sum() - 1
    assert find_task("atomic-columns").grade(everything, DATA)["recall"].n == 0


def test_an_atom_that_leaves_is_neither_missed_nor_false():
    """With the lost atom or without it, recall and precision are 1."""
    every = np.arange(len(ATOMS))
    for which in (every, np.delete(every, LOST)):
        values = TASK.grade(answer(which), DATA).values()
        assert values["recall"] == values["precision"] == 1


def test_its_own_algorithm_finds_all_atoms():
    """Nothing missed, nothing false, errors of picometres, as the limit is."""
    stack = DATA.signal("image")
    measured = SimpleNamespace(
        signals={"image": SimpleNamespace(data=stack)},
        settings={"pixel_size_nm": PIXEL_NM, "contrast": "bright"},
    )
    scores = TASK.grade(TASK.answer(SimpleNamespace(**vars(measured))), DATA)
    assert scores["recall"].value > 0.99
    assert scores["precision"].value > 0.99
    assert scores["spread"].value < 2.5 * scores["spread"].limit


def test_a_far_spread_is_explained():
    """Sublattices moved apart by 10 pm: the notes name the lens; exact places have no such note."""
    sub = np.where(np.arange(len(ATOMS)) % 2 == 0, 0.01, -0.01)
    moved = {"x_nm": ATOMS[:, 0] + sub, "y_nm": ATOMS[:, 1]}
    assert any("Coma" in note for note in TASK.grade(moved, DATA).notes)
    exact = TASK.grade(answer(np.arange(len(ATOMS))), DATA)
    assert not any("Coma" in note for note in exact.notes)
