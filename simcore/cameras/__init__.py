"""Cameras: from the intensity that falls on a sensor to what is read out.

In this order: electrons are scattered sideways before they are detected (a blur of the expectation,
`Camera.transfer`); some are detected (Poisson), each of which deposits a varying amount or, in a
counter, may coincide with another; what they leave spreads to neighbours (a blur of the events, and
of their noise with them); gain errors; dark signal; noise of pixel, row and column; saturation;
conversion and rounding.
"""

from nanophantom.simcore.cameras.camera import Camera
from nanophantom.simcore.cameras.detector import DEAD, HOT, Detector
from nanophantom.simcore.cameras.sensors import (
    Counter,
    CountingSensor,
    IntegratingSensor,
    Sensor,
)

__all__ = [
    "DEAD",
    "HOT",
    "Camera",
    "Counter",
    "CountingSensor",
    "Detector",
    "IntegratingSensor",
    "Sensor",
]
