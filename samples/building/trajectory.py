"""Trajectories: how atoms move together, from files that molecular dynamics writes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from nanophantom.samples.building.read import Structure
from nanophantom.simcore.atoms import Floats

_LOST = 0.45  # of the cell: an atom that strays farther can't be told from its image
_FORMATS = "give an extxyz, traj or XDATCAR file"


def read_trajectory(
    path: Path, structure: Structure, first: int = 0, every: int = 1
) -> tuple[Floats, Floats, int]:
    """Read a trajectory of a structure's atoms.

    Every frame holds the structure's atoms in its order, or those of the one cell that its
    supercell repeats; every copy of the cell then moves alike. Along periodic directions an
    atom's displacement from its place in the structure is the one to its nearest image. A cell
    that changes is scaled to its mean.

    Parameters
    ----------
    path
        Any file of several frames that ASE reads.
    structure
        What the trajectory belongs to.
    first, every
        The first frame that is taken, and the step to the next one.

    Returns
    -------
    positions_nm : ndarray
        Resting places, the means over the frames, shape (n, 3).
    snapshots_nm : ndarray
        Displacements from them, shape (frames, n, 3).
    copies : int
        How many copies of what the frames hold the structure is made of.

    Raises
    ------
    ValueError
        The file is missing, unreadable or has fewer than two frames; its atoms are others than
        the structure's; or an atom strays nearly half the way to its own image.
    """
    if not path.is_file():
        raise ValueError(f"trajectory.file: there is no file {str(path)!r}; give a path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames: Any = ase.io.read(path, index=f"{first}::{every}")
    except Exception as problem:  # each of ASE's formats has errors of its own
        raise ValueError(
            f"trajectory.file: {path.name} can't be read "
            f"({type(problem).__name__}: {problem}); {_FORMATS}"
        ) from None
    if len(frames) < 2:
        raise ValueError(
            f"trajectory: {path.name} gives {len(frames)} frames from first = {first} and every = "
            f"{every}; a trajectory needs two at least"
        )
    copies = int(np.prod(structure.supercell)) if len(frames[0]) < len(structure.numbers) else 1
    for number, frame in enumerate(frames):
        if not np.array_equal(np.tile(frame.numbers, copies), structure.numbers):
            raise ValueError(
                f"trajectory: frame {first + number * every} of {path.name} holds "
                f"{frame.symbols}, not the structure's {len(structure.numbers)} atoms in its order "
                "(or those of the one cell that supercell repeats)"
            )
    n = len(frames[0])
    at_start = structure.positions_nm[:n] * 10.0
    periodic, cell = frames[0].pbc, np.zeros((3, 3))
    if periodic.any():
        cell = np.mean([np.array(frame.cell.complete()) for frame in frames], axis=0)
    displaced = np.empty((len(frames), n, 3))
    for number, frame in enumerate(frames):
        positions = frame.get_positions()
        if periodic.any():
            share = frame.cell.complete().scaled_positions(positions)
            apart = share - at_start @ np.linalg.inv(cell)
            apart[:, periodic] -= np.round(apart[:, periodic])
            strayed = np.abs(apart[:, periodic]).max()
            if strayed > _LOST:
                raise ValueError(
                    f"trajectory: in frame {first + number * every} of {path.name} an atom is "
                    f"{strayed:.2f} of the cell away from its place in the structure, where it "
                    "can't be told from its image; give the structure that the trajectory is of"
                )
            displaced[number] = apart @ cell
        else:
            displaced[number] = positions - at_start
    mean = displaced.mean(axis=0)
    copied = np.tile(mean, (copies, 1)), np.tile(displaced - mean, (1, copies, 1))
    return structure.positions_nm + copied[0] / 10.0, copied[1] / 10.0, copies
