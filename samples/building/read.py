"""Structure files: any file that ASE reads, CIF through gemmi, nothing silently overlaid.

Refined crystal structures hold sites that are only partly occupied. A specimen is made of whole
atoms, so such sites are either refused or drawn, and the draw is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import gemmi
import numpy as np
import numpy.typing as npt

from nanophantom.samples.building.occupancy import draw_occupancies
from nanophantom.samples.building.sites import (
    B_PER_U,
    Sites,
    checked_b_factors,
    refuse_impossible,
    refuse_overlaps,
    repeated,
    with_occupancies,
)
from nanophantom.simcore.atoms import Floats, Ints
from nanophantom.simcore.fields import Table, read_only

_COINCIDENT_A = 0.1  # symmetry images of one site this close are the same atom
_FORMATS = "give a CIF, xyz, extxyz, POSCAR or pdb file"


@dataclass(frozen=True, eq=False)
class Structure:
    """Whole atoms read from a file, in the file's own Cartesian frame.

    Attributes
    ----------
    numbers, positions_nm, labels
        Atomic numbers (n,), positions (n, 3) and site labels (n,).
    b_factors_A2
        B factors that the file states, NaN where it states none, shape (n,).
    cell_nm
        Vectors of the file's cell as rows, shape (3, 3); None for a structure without a cell.
    supercell
        How often the cell was repeated along each vector before occupancies were drawn; the
        atoms fill the supercell.
    drawn
        Every partly occupied site of the supercell and whether it holds an atom.
    notes
        Sentences about choices made on the way.
    u_aniso_A2
        Mean square displacements <u_i u_j> that the file states, in its Cartesian frame, Å^2,
        shape (n, 3, 3), NaN where it states none; None if it states none at all.
    """

    numbers: Ints
    positions_nm: Floats
    labels: npt.NDArray[np.str_]
    b_factors_A2: Floats
    cell_nm: Floats | None
    supercell: tuple[int, int, int] = (1, 1, 1)
    drawn: Table = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    u_aniso_A2: Floats | None = None

    def __post_init__(self) -> None:
        for name in ("numbers", "positions_nm", "labels", "b_factors_A2"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        if self.u_aniso_A2 is not None:
            object.__setattr__(self, "u_aniso_A2", read_only(self.u_aniso_A2))

    @property
    def supercell_nm(self) -> Floats:
        """Vectors of the supercell that the atoms fill, as rows, shape (3, 3)."""
        if self.cell_nm is None:
            raise ValueError("a structure without a cell can't be repeated")
        return np.asarray(self.cell_nm * np.array(self.supercell)[:, None])


def read_structure(
    path: str | Path,
    block: str | None = None,
    frame: int | None = None,
    occupancy: str = "refuse",
    occupancies: Mapping[str, float] | None = None,
    supercell: tuple[int, int, int] = (1, 1, 1),
    rng: np.random.Generator | None = None,
    b_factors_A2: Collection[str] = (),
) -> Structure:
    """Read a structure file and make whole atoms of its sites.

    Parameters
    ----------
    path
        Any file that ASE reads (xyz, extxyz, POSCAR, pdb, cif, ...).
    block
        Which structure of a CIF with several.
    frame
        Which frame of a file with several, from 0.
    occupancy
        What to do with partly occupied sites: ``"refuse"``, or ``"draw"``: each site of the
        supercell holds an atom or not, by chance. Sites closer than 0.8 Å are alternatives: one
        of them is taken, or none, with their probabilities. Hydrogens follow the site that they
        are bound to where both have the same occupancy.
    occupancies
        Occupancies by site label that replace those of the file.
    supercell
        How often the cell is repeated along a, b, c before the draw.
    rng
        Source of the draw.
    b_factors_A2
        Elements whose B factors the caller knows better; the file's aren't looked at.

    Raises
    ------
    ValueError
        The file is missing, unreadable or ambiguous; a site is of no known element, without
        coordinates, or of an impossible occupancy or B factor; the supercell is too large; or
        two atoms lie on top of each other. It begins with the name of the argument that is in
        question (``file`` for the path).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"file: there is no structure file {str(path)!r}; give a path")
    is_cif = ".cif" in [suffix.lower() for suffix in path.suffixes]
    if is_cif and frame is not None:
        raise ValueError(f"frame: {path.name} is a CIF; choose a structure with block, not frame")
    if not is_cif and block is not None:
        raise ValueError(f"block: {path.name} is no CIF and has no blocks; leave block out")
    sites = _read_cif(path, block) if is_cif else _read_with_ase(path, frame)
    sites = with_occupancies(sites, occupancies or {})
    refuse_impossible(sites)
    sites = sites.select(sites.occupancies > 0)
    if len(sites.numbers) == 0:
        raise ValueError(
            f"occupancies: {path.name} holds no atoms, every site has occupancy 0; "
            "set those that are there to 1"
        )
    sites = checked_b_factors(sites, b_factors_A2)
    sites = repeated(sites, supercell)
    present, notes = draw_occupancies(sites, occupancy, supercell, rng)
    partial = sites.select(sites.occupancies < 1)
    atoms = sites.select(present)
    refuse_overlaps(atoms)
    return Structure(
        numbers=atoms.numbers,
        positions_nm=atoms.positions / 10,
        labels=atoms.labels,
        b_factors_A2=atoms.b_factors,
        cell_nm=None if atoms.cell is None else atoms.cell / np.array(supercell)[:, None] / 10,
        supercell=supercell,
        drawn={
            "label": partial.labels,
            "number": partial.numbers,
            "occupancy": partial.occupancies,
            "present": present[sites.occupancies < 1],
            **dict(zip(("x_nm", "y_nm", "z_nm"), partial.positions.T / 10, strict=True)),
        },
        notes=(*sites.notes, *notes),
        u_aniso_A2=atoms.tensors,
    )


def _read_with_ase(path: Path, frame: int | None) -> Sites:
    """Read the sites of anything but a CIF."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of an odd file is checked below
            frames: Any = ase.io.read(path, index=":")
    except Exception as problem:  # each of ASE's formats has errors of its own
        raise ValueError(
            f"file: {path.name} can't be read as an atomic structure "
            f"({type(problem).__name__}: {problem}); {_FORMATS}"
        ) from None
    if not frames or len(frames[0]) == 0:
        # ASE takes a name that it doesn't know for some format, and may find nothing in it.
        raise ValueError(
            f"file: the format of {path.name} wasn't recognised, or it holds no atoms; {_FORMATS}"
        )
    if frame is None and len(frames) > 1:
        raise ValueError(f"frame: {path.name} holds {len(frames)} frames; set frame, from 0")
    if frame is not None and not 0 <= frame < len(frames):
        raise ValueError(
            f"frame: {path.name} has no frame {frame}; it holds frames 0 to {len(frames) - 1}"
        )
    atoms = frames[frame or 0]
    mixed = atoms.info.get("occupancy", {})  # ASE's way to carry a CIF's occupancies along
    if isinstance(mixed, dict) and any(set(kinds.values()) != {1} for kinds in mixed.values()):
        raise ValueError(
            f"file: {path.name} holds partly occupied sites; give the CIF they are from"
        )
    arrays, n = atoms.arrays, len(atoms)
    occupancy = arrays.get("occupancy", arrays.get("occupancies", np.ones(n)))
    b_factors = arrays.get("bfactor", arrays.get("debye_waller_factors", np.full(n, np.nan)))
    names = arrays.get("atomtypes", [f"{s}{i + 1}" for i, s in enumerate(atoms.symbols)])
    # A pdb file without a crystal carries a cell of 1 Å.
    has_cell = atoms.cell.rank == 3 and atoms.cell.volume > 1.01
    return Sites(
        source=path.name,
        labels=np.array(names, dtype=np.str_),
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.get_positions(),
        occupancies=np.asarray(occupancy, np.float64),
        b_factors=np.asarray(b_factors, np.float64),
        cell=np.array(atoms.cell) if has_cell else None,
    )


def _read_cif(path: Path, block: str | None) -> Sites:
    """Read the sites of one block of a CIF and repeat them by its symmetry."""
    try:
        document = gemmi.cif.read(str(path))
    except Exception as problem:
        raise ValueError(f"file: {path.name} is no readable CIF ({problem}); {_FORMATS}") from None
    blocks = {b.name: b for b in document if len(b.find_values("_atom_site_fract_x"))}
    if not blocks:
        raise ValueError(
            f"file: {path.name} holds no fractional coordinates (_atom_site_fract_x); {_FORMATS}"
        )
    names = ", ".join(blocks)
    if block is None and len(blocks) > 1:
        raise ValueError(
            f"block: {path.name} holds several structures; set block to one of {names}"
        )
    if block is not None and block not in blocks:
        raise ValueError(f"block: {path.name} has no block {block!r}; it holds {names}")
    chosen = blocks[block] if block is not None else next(iter(blocks.values()))
    structure = gemmi.make_small_structure_from_block(chosen)
    cell = np.array(structure.cell.orth.mat.tolist()).T  # rows a, b, c in Å
    # Triangular; a cell that its angles can't close has NaN or next to nothing on the diagonal.
    if not (structure.cell.is_crystal() and (cell.diagonal() > _COINCIDENT_A).all()):
        raise ValueError(
            f"file: {path.name}, block {chosen.name}, has no cell or an impossible one; "
            "give lengths and angles of a cell"
        )
    for label, flag in chosen.find(["_atom_site_label", "_atom_site_calc_flag"]):
        if flag.lower().startswith("dum"):
            raise ValueError(
                f"file: site {label} of {path.name} is a dummy without an atom; remove it"
            )
    notes: tuple[str, ...] = ()
    if structure.symops:  # the operations that are written out beat the group's name
        operations = [_operation(triplet, path.name) for triplet in structure.symops]
    elif structure.spacegroup is not None:
        operations = list(structure.spacegroup.operations())
    elif structure.spacegroup_hm or structure.spacegroup_hall or structure.spacegroup_number:
        name = structure.spacegroup_hm or structure.spacegroup_hall
        raise ValueError(
            f"file: space group {name!r} of {path.name} isn't known; list its operations"
        )
    else:
        operations = [gemmi.Op("x,y,z")]
        notes = (f"{path.name} states no symmetry; its sites were taken as the whole cell (P 1).",)
    rotations = np.array([op.rot for op in operations]) / gemmi.Op.DEN
    shifts = np.array([op.tran for op in operations]) / gemmi.Op.DEN
    counts, fractions, tensors = [], [], []
    # The operations' rotations in Cartesian axes: r = fraction @ cell, so R = cell^T S cell^-T.
    turns = cell.T @ rotations @ np.linalg.inv(cell.T)
    for site in structure.sites:
        images = rotations @ np.array(site.fract.tolist()) + shifts
        images -= np.floor(images + 1e-9)
        between = images[:, None] - images[None, :]
        apart = np.linalg.norm((between - np.round(between)) @ cell, axis=2)
        first = (apart < _COINCIDENT_A).argmax(axis=1)  # the first image at the same place
        kept = first == np.arange(len(images))
        fractions.append(images[kept])
        tensors.append(turns[kept] @ _tensor(site, structure.cell) @ turns[kept].swapaxes(1, 2))
        counts.append(len(fractions[-1]))
    labels = np.array([site.label for site in structure.sites], dtype=np.str_)
    zero = _states_zero(chosen)
    b_factors = [_b_factor(site, structure.cell, site.label in zero) for site in structure.sites]
    return Sites(
        source=path.name,
        labels=np.repeat(labels, counts),
        numbers=np.repeat([site.element.atomic_number for site in structure.sites], counts),
        positions=np.concatenate(fractions) @ cell,
        occupancies=np.repeat([float(site.occ) for site in structure.sites], counts),
        b_factors=np.repeat(b_factors, counts),
        cell=cell,
        notes=notes,
        tensors=np.concatenate(tensors)
        if any(s.aniso.nonzero() for s in structure.sites)
        else None,
    )


def _operation(triplet: str, file: str) -> gemmi.Op:
    """Return a symmetry operation from its text, such as x,y,-z."""
    try:
        return gemmi.Op(triplet)
    except (RuntimeError, ValueError):
        raise ValueError(
            f"file: {file} has a symmetry operation {triplet!r}; write it like 'x,1/2-y,-z'"
        ) from None


def _states_zero(block: gemmi.cif.Block) -> set[str]:
    """Return the labels of the sites whose U_iso or B_iso is written out as 0.

    gemmi gives 0 also where nothing is written.
    """
    columns = [
        block.find(["_atom_site_label", f"_atom_site_{name}_iso_or_equiv"]) for name in ("U", "B")
    ]
    return {label for table in columns for label, b in table if gemmi.cif.as_number(b) == 0}


def _b_factor(site: gemmi.SmallStructure.Site, cell: gemmi.UnitCell, zero: bool) -> float:
    """Return B = 8 pi^2 U_eq in Å^2 from U_iso or the tensor U, NaN if the file has neither.

    U_eq is a third of the trace of U in Cartesian axes: R. X. Fischer & E. Tillmanns, Acta Cryst.
    C44 (1988) 775.
    """
    if site.u_iso != 0:
        return float(B_PER_U * site.u_iso)
    if not site.aniso.nonzero():
        return 0.0 if zero else float("nan")
    return float(B_PER_U * np.trace(_tensor(site, cell)) / 3)


def _tensor(site: gemmi.SmallStructure.Site, cell: gemmi.UnitCell) -> Floats:
    """Return the site's mean square displacements in Cartesian axes, Å^2, NaN if not stated.

    The file's U refers to the axes a* a, b* b, c* c: R. T. Downs, Rev. Mineral. Geochem. 41
    (2000) 61.
    """
    if not site.aniso.nonzero():
        return np.full((3, 3), np.nan)
    reciprocal = np.linalg.norm(np.array(cell.frac.mat.tolist()), axis=1)
    to_cartesian = np.array(cell.orth.mat.tolist()) * reciprocal  # columns a a*, b b*, c c*
    tensor = np.array(site.aniso.as_mat33().tolist())
    return np.asarray(to_cartesian @ tensor @ to_cartesian.T)
