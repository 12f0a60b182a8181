"""Face-centred cubic metals: lattice constants and elastic moduli of the elements."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metal:
    """A cubic metal at room temperature.

    Attributes
    ----------
    lattice_nm
        Lattice constant.
    c11_gpa, c12_gpa, c44_gpa
        Elastic constants of the single crystal.
    """

    lattice_nm: float
    c11_gpa: float
    c12_gpa: float
    c44_gpa: float

    @property
    def bulk_gpa(self) -> float:
        """Bulk modulus K = (c11 + 2 c12) / 3."""
        return (self.c11_gpa + 2 * self.c12_gpa) / 3

    @property
    def shear_gpa(self) -> float:
        """Isotropic shear modulus: R. Hill's mean of the bounds of Voigt and Reuss.

        Proc. Phys. Soc. A65 (1952) 349; with d = c11 - c12, Voigt (d + 3 c44) / 5 and Reuss
        5 d c44 / (4 c44 + 3 d).
        """
        d, c44 = self.c11_gpa - self.c12_gpa, self.c44_gpa
        return ((d + 3 * c44) / 5 + 5 * d * c44 / (4 * c44 + 3 * d)) / 2


# Lattice constants: H. W. King, Bull. Alloy Phase Diagrams 2 (1981) 401, as in the CRC Handbook.
# Elastic constants: Ag, Au J. R. Neighbours & G. A. Alers, Phys. Rev. 111 (1958) 707; Cu
# W. C. Overton & J. Gaffney, Phys. Rev. 98 (1955) 969; Ni G. A. Alers, J. R. Neighbours & H. Sato,
# J. Phys. Chem. Solids 13 (1960) 40; Pd J. A. Rayne, Phys. Rev. 118 (1960) 1545; Pt
# R. E. Macfarlane, J. A. Rayne & C. K. Jones, Phys. Lett. 18 (1965) 91.
METALS: dict[str, Metal] = {
    "Ag": Metal(0.40857, 124.0, 93.7, 46.1),
    "Au": Metal(0.40782, 192.3, 163.1, 42.0),
    "Cu": Metal(0.36146, 168.4, 121.4, 75.4),
    "Ni": Metal(0.35240, 250.8, 150.0, 123.5),
    "Pd": Metal(0.38903, 227.1, 176.1, 71.7),
    "Pt": Metal(0.39236, 346.7, 250.7, 76.5),
}
