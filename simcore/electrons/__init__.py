"""Electron scattering and imaging: lengths in Å, energies in keV, phases in rad."""
