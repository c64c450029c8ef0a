"""A scripted performance: what the puppet can do, with no camera and no person.

Every segment starts and ends near rest, so the track loops, and has an apex at which its expression is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from puppet import easing, facs
from puppet.errors import ConfigError


@dataclass(frozen=True)
class Segment:
    """One named part of the performance."""

    name: str  # "smile", as overlays and contact sheets show it
    start_s: float
    end_s: float
    apex_s: float  # when the expression is complete


@dataclass(frozen=True)
class _Action:
    """Columns that rise together, are held and fall; times in seconds after the segment's start."""

    at_s: float
    rise_s: float
    hold_s: float
    fall_s: float
    values: Mapping[str, float] = field(default_factory=dict)


def _act(at_s: float, rise_s: float, hold_s: float, fall_s: float, **values: float) -> _Action:
    return _Action(at_s, rise_s, hold_s, fall_s, values)


def _glance(at_s: float, hold_s: float, **values: float) -> _Action:
    """Eyes jump in 60 ms, as a saccade of that size does."""
    return _act(at_s, 0.06, hold_s, 0.06, **values)


# (name, duration, apex after start, actions, blinks after start); mouth corners lead, cheeks follow by some frames.
_SCRIPT: tuple[tuple[str, float, float, tuple[_Action, ...], tuple[float, ...]], ...] = (
    ("neutral", 1.8, 0.6, (), (1.0,)),
    (
        "smile",
        2.4,
        1.2,
        (
            _act(0.0, 0.5, 1.1, 0.6, AU12=3.5),
            _act(0.08, 0.5, 1.0, 0.6, AU06=2.5, AU07=0.6),
            _act(0.0, 0.8, 0.6, 0.9, roll_rad=0.06, pitch_rad=0.03),
        ),
        (2.1,),
    ),
    (
        "laugh",
        2.8,
        1.1,
        (
            _act(0.0, 0.4, 1.6, 0.7, AU12=4.3),
            _act(0.06, 0.4, 1.5, 0.7, AU06=4.0, AU07=1.2),
            _act(0.05, 0.35, 1.35, 0.6, AU25=4.0, AU26=3.4, AU10=1.0),
            _act(0.1, 0.6, 0.9, 0.9, pitch_rad=0.10),
            # Two bursts of breath close the jaw a little.
            _act(1.25, 0.11, 0.0, 0.11, AU26=-1.0, pitch_rad=-0.02),
            _act(1.55, 0.11, 0.0, 0.11, AU26=-0.8, pitch_rad=-0.02),
        ),
        (2.35,),
    ),
    (
        "frown",
        2.4,
        1.2,
        (
            _act(0.0, 0.5, 1.1, 0.6, AU04=4.2),
            _act(0.1, 0.5, 1.0, 0.6, AU15=3.8, AU17=2.8),
            _act(0.0, 0.7, 0.8, 0.8, pitch_rad=-0.08),
        ),
        (2.05,),
    ),
    (
        "surprise",
        2.4,
        1.0,
        (
            _act(0.0, 0.28, 1.2, 0.7, AU01=4.2, AU02=4.2, AU05=4.0),
            _act(0.05, 0.3, 1.1, 0.65, AU25=3.6, AU26=4.0),
            _act(0.0, 0.4, 1.0, 0.8, pitch_rad=0.05, scale=-0.02),
        ),
        (2.0,),
    ),
    (
        "wink left",
        1.4,
        0.5,
        (
            _act(0.2, 0.14, 0.45, 0.22, AU45_L=5.0),
            _act(0.14, 0.2, 0.45, 0.3, AU06_L=2.6, AU12_L=1.8, roll_rad=0.04),
        ),
        (),
    ),
    (
        "wink right",
        1.4,
        0.5,
        (
            _act(0.2, 0.14, 0.45, 0.22, AU45_R=5.0),
            _act(0.14, 0.2, 0.45, 0.3, AU06_R=2.6, AU12_R=1.8, roll_rad=-0.04),
        ),
        (),
    ),
    ("pucker", 2.0, 0.9, (_act(0.0, 0.45, 0.8, 0.5, AU18=4.6, AU22=0.8), _act(0.1, 0.5, 0.7, 0.5, AU17=0.8)), (1.75,)),
    (
        "gaze sweep",
        3.2,
        0.5,
        (
            _glance(0.2, 0.55, gaze_yaw_rad=0.42),
            _glance(0.85, 0.6, gaze_yaw_rad=-0.42),
            _glance(1.55, 0.5, gaze_pitch_rad=0.30),
            _glance(2.15, 0.55, gaze_pitch_rad=-0.32),
        ),
        (2.8,),
    ),
    (
        "head turn",
        4.4,
        0.8,
        (
            # The eyes stay with the viewer while the head turns.
            _act(0.0, 0.7, 0.3, 0.8, yaw_rad=0.30, gaze_yaw_rad=-0.22),
            _act(1.0, 0.8, 0.3, 0.7, yaw_rad=-0.30, gaze_yaw_rad=0.22),
            _act(2.1, 0.5, 0.15, 0.5, pitch_rad=0.17, gaze_pitch_rad=-0.12),
            _act(2.75, 0.5, 0.15, 0.5, pitch_rad=-0.17, gaze_pitch_rad=0.12),
            _act(3.2, 0.5, 0.1, 0.6, roll_rad=0.25),
        ),
        (1.35, 3.35),
    ),
)


def _segments() -> tuple[Segment, ...]:
    segments, start = [], 0.0
    for name, duration, apex, _, _ in _SCRIPT:
        segments.append(Segment(name, start, start + duration, start + apex))
        start += duration
    return tuple(segments)


SEGMENTS: tuple[Segment, ...] = _segments()
DURATION_S: float = SEGMENTS[-1].end_s


def segment_at(time_s: float) -> Segment:
    """The segment played at a time; the performance repeats after `DURATION_S`."""
    time_s %= DURATION_S
    return next(s for s in SEGMENTS if time_s < s.end_s)


def demo_controls(times_s: np.ndarray) -> np.ndarray:
    """The performance at any times: `(N,)` seconds in 0 to `DURATION_S`, `(N, SIZE)` float32 controls back."""
    times = np.asarray(times_s, np.float64)
    track = np.tile(facs.rest().astype(np.float64), (len(times), 1))
    for segment, (_, _, _, actions, blinks) in zip(SEGMENTS, _SCRIPT, strict=True):
        for action in actions:
            shape = easing.rise_and_fall(
                times - segment.start_s - action.at_s,
                rise_s=action.rise_s,
                hold_s=action.hold_s,
                fall_s=action.fall_s,
            )
            for name, value in action.values.items():
                track[:, facs.columns_of(name)] += value * shape[:, None]
        for at in blinks:
            track[:, facs.columns_of("AU45")] += (
                facs.MAX_INTENSITY * easing.blink(times - segment.start_s - at)[:, None]
            )
    _sway(track, times)
    return facs.clip(track).astype(np.float32)


def demo_track(fps: float) -> np.ndarray:
    """The whole performance at a frame rate: `(frames, SIZE)` float32, first frame at time 0.

    Raises:
        ConfigError: a rate that is not above 0 or above 1000.
    """
    if not 0 < fps <= 1000:
        raise ConfigError(f"{fps:g} fps for the demo: expected above 0 and at most 1000.")
    return demo_controls(np.arange(round(DURATION_S * fps)) / fps)


def _sway(track: np.ndarray, times: np.ndarray) -> None:
    """Add the small movements of a head that no one holds still; none at both ends, so the loop closes."""
    calm = easing.minimum_jerk(times / 1.0) * easing.minimum_jerk((DURATION_S - times) / 1.0)
    for name, size, slow_hz, fast_hz in (
        ("yaw_rad", 0.018, 0.13, 0.37),
        ("pitch_rad", 0.012, 0.17, 0.41),
        ("roll_rad", 0.010, 0.11, 0.29),
        ("shift_x", 0.012, 0.09, 0.23),
        ("shift_y", 0.010, 0.14, 0.31),
    ):
        wave = 0.7 * np.sin(2 * np.pi * slow_hz * times) + 0.3 * np.sin(2 * np.pi * fast_hz * times + 1.0)
        track[:, facs.INDEX[name]] += size * calm * wave
