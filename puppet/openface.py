"""OpenFace CSV files (Baltrušaitis et al. 2018): the interchange format of AU tracks.

Columns written: `frame, timestamp, confidence, success, pose_Tx, pose_Ty, pose_Tz, pose_Rx, pose_Ry, pose_Rz`, the 17
intensities `AU01_r ... AU45_r` (mean of both sides), then every column of `puppet.facs` under its own name. Where the
latter are present they are what is read, so that a log plays back exactly.

OpenFace's camera frame has x right, y down, z away, and `R = Rx(pose_Rx) Ry(pose_Ry) Rz(pose_Rz)`, right-handed about
those axes (`Euler2RotationMatrix` in its RotationHelpers.h). Ours has y up and z toward the camera, so the rotation is
`C R C` with `C = diag(1, -1, -1)`: alone, `yaw = -pose_Ry`, `pitch = -pose_Rx`, `roll = pose_Rz`.
`gaze_angle_x/y` are `atan2(x, -z)` and `atan2(y, -z)` of the gaze in the camera's frame; ours is the head's.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puppet import facs
from puppet.errors import DeviceError, InputError
from puppet.input_file import reason, require_file
from puppet.pose import angles_from_rotation, rotation_from_angles

POSE_COLUMNS = ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz")
AU_COLUMNS = tuple(f"{au}_r" for au in facs.OPENFACE_AUS)
HEADER = ("frame", "timestamp", "confidence", "success", *POSE_COLUMNS, *AU_COLUMNS, *facs.NAMES)

INTEROCULAR_MM = 63.0
"""Adults' mean distance of the pupils: turns shifts in inter-ocular distances into OpenFace's millimetres."""
REST_DISTANCE_MM = 600.0
"""Nominal distance of a face at scale 1."""

MAX_ROWS = 500_000  # 4.6 hours at 30 fps, 0.3 GB in memory
MAX_LINE = 65_536  # characters; OpenFace's widest row, with all its landmarks, has about 8,000
MAX_COLUMNS = 1_500  # OpenFace's widest has 714
MAX_BYTES = 4 << 30  # MAX_ROWS of the widest
FPS_RANGE = (1.0, 240.0)

_OPENFACE_FAMILIES = re.compile(
    r"frame|face_id|timestamp|confidence|success|gaze_(\d_[xyz]|angle_[xy])|eye_lmk_[xyXYZ]_\d+|pose_[TR][xyz]"
    r"|[xyXYZ]_\d+|p_(scale|rx|ry|rz|tx|ty|\d+)|AU\d\d_[rc]"
)
_FLIP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Track:
    """A performance over time."""

    control: np.ndarray  # (frames, SIZE) float32, in the ranges of `puppet.facs`
    time_s: np.ndarray  # (frames,) float64, increasing
    confidence: np.ndarray  # (frames,) float32, 0-1
    success: np.ndarray  # (frames,) bool: a face was in view

    @property
    def fps(self) -> float:
        """Median frame rate, at least 1 and at most 240; 30 where there are not two frames."""
        if len(self.time_s) < 2:
            return 30.0
        low, high = FPS_RANGE
        return float(1.0 / np.clip(np.median(np.diff(self.time_s)), 1.0 / high, 1.0 / low))


def read_track(path: Path | str) -> Track:
    """An OpenFace CSV, or one that `TrackWriter` wrote.

    The 17 intensities have to be there (`AU12_r`, or `AU12_L` and `AU12_R`), and `timestamp`; pose, gaze, confidence
    and success may be missing. Translation has no neutral in OpenFace: it is taken relative to the first face.

    Raises:
        InputError: not a CSV, unknown or missing columns, ragged rows, values that are not finite or out of range,
            time that does not increase, more than MAX_ROWS rows.
    """
    path = Path(path)
    rows = _rows(path)
    names = [name.strip() for name in next(rows)[1]]
    _check_columns(path, names)
    table, lines = _table(path, names, rows)
    if not len(lines):
        raise InputError(f"{path} has a header but no rows: expected one row a frame.")
    ones = np.ones(len(lines), np.float32)
    time_s, success = table["timestamp"], table.get("success", ones) > 0.5
    if (stuck := np.diff(time_s) <= 0).any():
        row = int(np.argmax(stuck)) + 1
        raise InputError(
            f"{path}, line {lines[row]}: timestamp {time_s[row]:g} does not increase. One face a file, please."
        )
    control = np.tile(facs.REST, (len(lines), 1))
    for au in facs.OPENFACE_AUS:
        if f"{au}_r" in table:
            control[:, facs.columns_of(au)] = table[f"{au}_r"][:, None]
    _read_head(table, success, control)
    for name, place in facs.INDEX.items():
        if name in table:
            control[:, place] = table[name]
    np.clip(control, facs.LOW, facs.HIGH, out=control)
    return Track(control, time_s, np.clip(table.get("confidence", ones), 0, 1), success)


class TrackWriter:
    """Writes one row a frame; each row is on disk when `write` returns.

    Raises:
        DeviceError: the file can't be written (in the constructor and in `write`).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = open(path, "w", encoding="utf-8", newline="", buffering=1)
            self._file.write(",".join(HEADER) + "\n")
        except OSError as error:
            raise DeviceError(
                f"{path} can't be written: {error.strerror}. Choose another place for the AU log."
            ) from error

    def write(self, control: np.ndarray, *, frame: int, time_s: float, confidence: float, has_face: bool) -> None:
        """One frame; `frame` counts from 0 (OpenFace counts from 1, and so does the file)."""
        head = (frame + 1, f"{time_s:.6f}", f"{confidence:.3f}", int(has_face))
        pose = (f"{value:.4f}" for value in _openface_pose(control))
        intensities = (f"{facs.unsided(control, au):.4f}" for au in facs.OPENFACE_AUS)
        exact = (np.format_float_positional(value, trim="-") for value in np.asarray(control, np.float32))
        try:
            self._file.write(",".join(map(str, (*head, *pose, *intensities, *exact))) + "\n")
        except OSError as error:
            raise DeviceError(f"{self._path} can't be written: {error.strerror}. The rows so far are kept.") from error

    def close(self) -> None:
        self._file.close()


def _openface_pose(control: np.ndarray) -> tuple[float, ...]:
    """`pose_Tx .. pose_Rz` of a control, in mm and radians."""
    yaw, pitch, roll, shift_x, shift_y, scale = (float(control[facs.INDEX[name]]) for name in facs.HEAD_NAMES)
    r = _FLIP @ rotation_from_angles(yaw, pitch, roll) @ _FLIP
    rotation = (math.atan2(-r[1, 2], r[2, 2]), math.asin(np.clip(r[0, 2], -1, 1)), math.atan2(-r[0, 1], r[0, 0]))
    return shift_x * INTEROCULAR_MM, -shift_y * INTEROCULAR_MM, REST_DISTANCE_MM / scale, *rotation


def _read_head(table: dict[str, np.ndarray], success: np.ndarray, control: np.ndarray) -> None:
    """Fill head and gaze columns of `control` from OpenFace's pose and gaze columns, where they are present."""
    has_rotation = all(f"pose_R{axis}" in table for axis in "xyz")
    has_gaze = all(f"gaze_angle_{axis}" in table for axis in "xy")
    for i in range(len(control)) if has_rotation or has_gaze else ():
        rotation = np.eye(3)
        if has_rotation:
            rx, ry, rz = (float(table[f"pose_R{axis}"][i]) for axis in "xyz")
            rotation = _FLIP @ _openface_rotation(rx, ry, rz) @ _FLIP
            control[i, facs.INDEX["yaw_rad"] : facs.INDEX["roll_rad"] + 1] = angles_from_rotation(rotation)
        if has_gaze and success[i]:
            right, down = (math.tan(table[f"gaze_angle_{axis}"][i]) for axis in "xy")
            x, y, z = rotation.T @ np.array([right, -down, 1.0])
            control[i, facs.INDEX["gaze_yaw_rad"]] = math.atan2(x, z)
            control[i, facs.INDEX["gaze_pitch_rad"]] = math.atan2(y, math.hypot(x, z))
    if all(f"pose_T{axis}" in table for axis in "xyz") and success.any():
        x, y, z = (table[f"pose_T{axis}"].astype(np.float64) for axis in "xyz")
        first = int(np.argmax(success))
        # Limited while still in float64: a control's own numbers are too small for what a file may claim.
        for name, way in (("shift_x", x - x[first]), ("shift_y", y[first] - y)):
            control[success, facs.INDEX[name]] = np.clip(way / INTEROCULAR_MM, -1e3, 1e3)[success]
        valid = success & (z > 0) & (z[first] > 0)
        control[valid, facs.INDEX["scale"]] = np.clip(z[first] / z[valid], 1e-3, 1e3)


def _openface_rotation(rx: float, ry: float, rz: float) -> np.ndarray:
    """`Rx @ Ry @ Rz` in OpenFace's camera frame."""
    (c1, c2, c3), (s1, s2, s3) = np.cos([rx, ry, rz]), np.sin([rx, ry, rz])
    x = np.array([[1, 0, 0], [0, c1, -s1], [0, s1, c1]])
    y = np.array([[c2, 0, s2], [0, 1, 0], [-s2, 0, c2]])
    z = np.array([[c3, -s3, 0], [s3, c3, 0], [0, 0, 1]])
    return x @ y @ z


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """`(line number, cells)` of each line that is not empty, read with bounded memory."""
    require_file(path, expected="a CSV of facial actions", max_bytes=MAX_BYTES)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            count = 0
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), start=1):
                if len(line) >= MAX_LINE:
                    raise InputError(f"{path}, line {number} is longer than {MAX_LINE} characters: not an AU track.")
                if not line.strip():
                    continue
                if count > MAX_ROWS:
                    raise InputError(f"{path} has more than {MAX_ROWS} rows: cut it into shorter tracks.")
                count += 1
                yield number, next(csv.reader([line]))
            if not count:
                raise InputError(f"{path} is empty: expected a header and one row a frame.")
    except OSError as error:
        raise InputError(f"{path} can't be read: {reason(error)}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a text CSV: {error}. Expected OpenFace's columns.") from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{path} has {len(names)} columns: expected at most {MAX_COLUMNS}.")
    unknown = [n for n in names if n not in facs.INDEX and not _OPENFACE_FAMILIES.fullmatch(n)]
    if unknown:
        raise InputError(
            f"{path}: unknown columns {_listed(unknown)}; expected OpenFace's, as in {', '.join(HEADER[:5])}."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path}: columns {_listed(twice)} are there twice.")
    present = set(names)
    missing = [] if "timestamp" in present else ["timestamp"]
    missing += [
        f"{au}_r"
        for au in facs.OPENFACE_AUS
        if f"{au}_r" not in present and not all(facs.NAMES[i] in present for i in facs.columns_of(au))
    ]
    if missing:
        raise InputError(f"{path}: missing columns {_listed(missing)}. Write them with OpenFace -aus, or --au-log.")


def _table(
    path: Path, names: Sequence[str], rows: Iterator[tuple[int, list[str]]]
) -> tuple[dict[str, np.ndarray], array]:
    """Columns that are used by name, `(rows,)` each, and the rows' line numbers. Time is float64, the rest float32.

    Numbers are checked as they come; what is not used (landmarks, classes) is not looked at.
    """
    # Compact arrays, not lists: half a million rows of Python's floats would take gigabytes.
    columns = [(i, name, array("d" if name == "timestamp" else "f")) for i, name in enumerate(names) if name in _USED]
    places = [(i, name, *_range(name), column.append) for i, name, column in columns]
    lines = array("L")
    for line, cells in rows:
        if len(cells) != len(names):
            raise InputError(f"{path}, line {line}: {len(cells)} cells, but the header has {len(names)}.")
        for i, name, low, high, append in places:
            try:
                number = float(cells[i])
            except ValueError:
                cell = cells[i].strip()[:40]
                raise InputError(f"{path}, line {line}: {name} = {cell!r} is not a number.") from None
            if not low <= number <= high:  # false for NaN, too
                raise InputError(f"{path}, line {line}: {name} = {number:g}; expected {low:g} to {high:g}.")
            append(number)
        lines.append(line)
    return {name: np.frombuffer(column, column.typecode) for _, name, column in columns}, lines


_USED = {*HEADER, "gaze_angle_x", "gaze_angle_y"} - {"frame"}
_SLACK = 1e-4  # rounding of six decimals


def _range(name: str) -> tuple[float, float]:
    if name in AU_COLUMNS:
        return -_SLACK, facs.MAX_INTENSITY + _SLACK
    if name in facs.INDEX:
        column = facs.COLUMNS[facs.INDEX[name]]
        return column.low - _SLACK, column.high + _SLACK
    return -1e12, 1e12


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"
