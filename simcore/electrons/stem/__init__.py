"""Scanned probes: detectors, probes through slices, and the matrices that replace them."""
