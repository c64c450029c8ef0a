"""The control vector: every number that drives a portrait, its name, side, range and place.

This table is the only source of column order. A control is a `float32` array of shape `(SIZE,)` in this order; a
track is `(frames, SIZE)`. Action units (AUs) and their numbers are those of FACS (Ekman, Friesen & Hager 2002);
intensities run 0-5 (0 absent, 1-5 = FACS A-E). AU45 is lid closure as in OpenFace (5 = fully closed), AU25 the opening
of the lips (0 = sealed). Left and right are the person's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from puppet.errors import ConfigError

MAX_INTENSITY = 5.0


@dataclass(frozen=True)
class Column:
    """One number of the control vector."""

    name: str  # "AU12_L", "AU26", "yaw_rad"
    title: str  # FACS name
    low: float
    high: float
    rest: float = 0.0

    @property
    def au(self) -> str | None:
        """'AU12' for 'AU12_L'; None for gaze, head and mouth-sideways columns."""
        return self.name.split("_")[0] if self.name.startswith("AU") else None

    @property
    def side(self) -> str | None:
        """'L' or 'R' for sided columns, else None."""
        return self.name[-1] if self.name.endswith(("_L", "_R")) else None

    @property
    def is_intensity(self) -> bool:
        """Whether the value is a 0-5 intensity rather than an angle or a shift."""
        return self.high == MAX_INTENSITY


def _sided(name: str, title: str) -> list[Column]:
    return [Column(f"{name}_{side}", title, 0.0, MAX_INTENSITY) for side in "LR"]


def _single(name: str, title: str) -> list[Column]:
    return [Column(name, title, 0.0, MAX_INTENSITY)]


COLUMNS: tuple[Column, ...] = tuple(
    [
        *_sided("AU01", "inner brow raiser"),
        *_sided("AU02", "outer brow raiser"),
        *_sided("AU04", "brow lowerer"),
        *_sided("AU05", "upper lid raiser"),
        *_sided("AU06", "cheek raiser"),
        *_sided("AU07", "lid tightener"),
        *_sided("AU09", "nose wrinkler"),
        *_sided("AU10", "upper lip raiser"),
        *_sided("AU12", "lip corner puller"),
        *_sided("AU14", "dimpler"),
        *_sided("AU15", "lip corner depressor"),
        *_sided("AU16", "lower lip depressor"),
        *_sided("AU20", "lip stretcher"),
        *_sided("AU45", "lid closure"),
        *_sided("mouth", "mouth sideways"),
        *_single("AU17", "chin raiser"),
        *_single("AU18", "lip pucker"),
        *_single("AU22", "lip funneler"),
        *_single("AU23", "lip tightener"),
        *_single("AU24", "lip pressor"),
        *_single("AU25", "lips part"),
        *_single("AU26", "jaw drop"),
        *_single("AU28", "lip suck"),
        *_single("AU29", "jaw thrust"),
        *_sided("AU30", "jaw sideways"),
        *_single("AU34", "cheek puff"),
        Column("gaze_yaw_rad", "eyes turn left (AU61) / right (AU62)", -0.7, 0.7),
        Column("gaze_pitch_rad", "eyes up (AU63) / down (AU64)", -0.6, 0.6),
        Column("yaw_rad", "head turn left (AU51) / right (AU52)", -1.2, 1.2),
        Column("pitch_rad", "head up (AU53) / down (AU54)", -1.0, 1.0),
        Column("roll_rad", "head tilt left (AU55) / right (AU56)", -1.2, 1.2),
        Column("shift_x", "head shift to the person's left, inter-ocular distances", -3.0, 3.0),
        Column("shift_y", "head shift up, inter-ocular distances", -3.0, 3.0),
        Column("scale", "apparent head size against rest (AU57 forward / AU58 back)", 0.3, 3.0, rest=1.0),
    ]
)

NAMES: tuple[str, ...] = tuple(c.name for c in COLUMNS)
SIZE = len(COLUMNS)
INDEX: Mapping[str, int] = {name: i for i, name in enumerate(NAMES)}
LOW = np.array([c.low for c in COLUMNS], np.float32)
HIGH = np.array([c.high for c in COLUMNS], np.float32)
REST = np.array([c.rest for c in COLUMNS], np.float32)

INTENSITY_NAMES: tuple[str, ...] = tuple(c.name for c in COLUMNS if c.is_intensity)
"""The 0-5 columns; they come first, so `control[:len(INTENSITY_NAMES)]` are the intensities."""
INTENSITY_COUNT = len(INTENSITY_NAMES)
HEAD_NAMES = ("yaw_rad", "pitch_rad", "roll_rad", "shift_x", "shift_y", "scale")
GAZE_NAMES = ("gaze_yaw_rad", "gaze_pitch_rad")

OPENFACE_AUS: tuple[str, ...] = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12",
    "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45",
)  # fmt: skip
"""The intensity columns of OpenFace 2 (Baltrušaitis et al. 2018), in its own order."""

AUS: tuple[str, ...] = tuple(dict.fromkeys(c.au for c in COLUMNS if c.au))


def other_side(name: str) -> str:
    """A sided column's name on the person's other side; any other's is its own."""
    return name[:-1] + {"L": "R", "R": "L"}[name[-1]] if name.endswith(("_L", "_R")) else name


MIRRORED = np.array([INDEX[other_side(name)] for name in NAMES])
"""`(SIZE,)` places of the columns in a mirror; signs of angles and shifts are not its matter."""


def rest() -> np.ndarray:
    """A new control at rest: no action, eyes and head straight. `(SIZE,)` float32."""
    return REST.copy()


def columns_of(name: str) -> list[int]:
    """Places of a name: 'AU12' gives both sides, 'AU12_L' or 'yaw_rad' one.

    Raises:
        ConfigError: the name is not in the table.
    """
    if name in INDEX:
        return [INDEX[name]]
    places = [i for i, c in enumerate(COLUMNS) if c.name.rsplit("_", 1)[0] == name and c.side]
    if not places:
        raise ConfigError(f"unknown action {name!r}: expected one of {', '.join((*AUS, *NAMES[INTENSITY_COUNT:]))}.")
    return places


def control(**actions: float) -> np.ndarray:
    """A control from names: `control(AU12=3, AU45_L=5, yaw_rad=0.2)`; an unsided name sets both sides.

    Raises:
        ConfigError: an unknown name, a value that is not finite or out of its column's range.
    """
    vector = rest()
    for name, value in actions.items():
        for place in columns_of(name):
            column = COLUMNS[place]
            if not np.isfinite(value) or not column.low <= value <= column.high:
                raise ConfigError(f"{name}={value} is out of range: expected {column.low:g} to {column.high:g}.")
            vector[place] = value
    return vector


def clip(vector: np.ndarray) -> np.ndarray:
    """The control (or track) limited to the table's ranges, a new array."""
    return np.clip(vector, LOW, HIGH)


def unsided(vector: np.ndarray, au: str) -> np.ndarray:
    """Intensity of one AU without sides: the mean of left and right. `vector` is `(..., SIZE)`."""
    return vector[..., columns_of(au)].mean(-1)
