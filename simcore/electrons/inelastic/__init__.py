"""Inelastic scattering of fast electrons: mean free paths, plasmons, inner shells, X-rays."""
