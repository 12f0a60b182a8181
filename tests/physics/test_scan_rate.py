"""Closed forms of the fastest scan."""

import math

import pytest

from nanophantom.simcore.probes.cantilever import Cantilever
from nanophantom.simcore.probes.feedback import Stage
from nanophantom.simcore.probes.scan_rate import frame_rate_hz, loop_bandwidth_hz


def test_frame_rate_of_high_speed_microscopy():
    """10 nm corrugation, f_B = 70 kHz, 100 lines of 200 nm: 17.5 frames a second (row 38)."""
    assert frame_rate_hz(70e3, 10.0, 100, 200.0) == pytest.approx(17.5, rel=1e-9)


def test_bandwidth_adds_the_delays_of_all_elements():
    """f_c = 1.2 MHz, Q_c = 2 in water, stage 150 kHz with Q_s = 0.6: term by term."""
    lever = Cantilever(stiffness_n_per_m=0.2, resonance_khz=1200.0, quality_factor=2.0)
    stage = Stage(resonance_khz=150.0, quality_factor=0.6)
    bare = 1.2e6 / 8 / (1 + 4 / math.pi + 2 * 0.6 * 8 / math.pi)
    assert loop_bandwidth_hz(lever, stage) == pytest.approx(bare, rel=1e-12)
    late = loop_bandwidth_hz(lever, stage, parachuting_s=1e-6, delay_s=0.5e-6)
    assert 1 / late - 1 / bare == pytest.approx(8 * 2 * 1.5e-6, rel=1e-9)


def test_bandwidth_of_a_slow_lever_is_where_twice_its_ring_down_lags_by_45_degrees():
    """f_B -> pi f_c / (16 Q_c), where 2 pi f_B times 2 tau is pi / 4."""
    lever = Cantilever(resonance_khz=300.0, quality_factor=1e4)
    stiff = Stage(resonance_khz=1e4, quality_factor=0.5)
    bandwidth = loop_bandwidth_hz(lever, stiff)
    assert bandwidth == pytest.approx(math.pi * 3e5 / 16e4, rel=1e-3)
    assert 2 * math.pi * bandwidth * 2 * lever.ring_down_s == pytest.approx(math.pi / 4, rel=1e-3)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="positive"):
        frame_rate_hz(0.0, 10.0, 100, 200.0)
    with pytest.raises(ValueError, match="0 or more"):
        loop_bandwidth_hz(Cantilever(), Stage(), delay_s=-1.0)
