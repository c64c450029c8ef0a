"""Folds: skin that darkens in a crease and lightens where a cheek bulges, as the face acts.

Warping keeps every pixel's colour, so that a smile has no fold beside the nose. Here each action changes the light on
the skin by a ratio, as expression ratio images do (Liu, Shan and Zhang 2001), learned once for all faces on a chart of
the face (`python -m trainer folds`). A ratio keeps what the portrait's skin is like: pores, brush strokes, colour.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from puppet import facs
from puppet.errors import InputError
from puppet.generate.anatomy import Anatomy
from puppet.generate.canvas import Canvas
from puppet.generate.field import Grid, PortraitField
from puppet.generate.layers import in_colours
from puppet.generate.scatter import interpolation_operator
from puppet.landmarks import FACE_COUNT
from puppet.tensors import REAL, Layout, read_tensors

DEFAULT_PATH = Path(__file__).parent.parent / "models" / "folds.safetensors"
MOST_DARK, MOST_BRIGHT = 0.25, 0.15
"""What the logarithm of a ratio approaches as actions add up: as much as faces that laugh and frown show."""
LIGHTEST = 245.0
"""Grey levels that no colour of a portrait's skin is lightened beyond: pale cheeks have little light to win."""
FINER = 2
"""Ratios are worked out on cells this much smaller than the head grid's."""

_LEAST_AMOUNT = 1e-3  # of an action: what changes no grey level
_CELLS = 96  # on the longer side of the face
_MARGIN = 0.02  # of the face's size, round its landmarks
_COARSE = 4  # places on the chart are interpolated from landmarks at every so many cells
_SOFTNESS = 0.02
_LEAST_BRIGHT = 0.01  # of the logarithm: skin that is lighter than that already is lightened by no more
_DARKEST = 8.0  # grey levels added before a logarithm
_SHADED = 0.05  # of the logarithm of a ratio: skin that is shaded this much by any action counts fully
_SHADES_CELLS = 10.0  # shades broader than this are the room's light
_LEAST_SPREAD = 0.5  # a face without shades takes all colours alike
_SHARE_LIMITS = (0.5, 1.8)
_LAYOUTS = {
    "maps": Layout(REAL, ("F", "H", "W"), -2.0, 2.0),
    "landmarks": Layout(REAL, (FACE_COUNT, 2), -64.0, 4096.0),
}


@dataclass(frozen=True)
class FoldMaps:
    """What every action does to the light on any face.

    `maps` `(F, H, W)` float32: logarithm of the ratio at intensity 5, for each of `actions` (columns of `puppet.facs`);
    0 off the skin. `landmarks` `(468, 2)`: where the landmarks lie on the chart, px.
    """

    actions: tuple[str, ...]
    maps: np.ndarray
    landmarks: np.ndarray

    @classmethod
    @lru_cache(maxsize=4)
    def load(cls, path: Path = DEFAULT_PATH) -> FoldMaps:
        """The packaged maps, or those in a file made by `python -m trainer folds`.

        A file has the maps of the person's left side and of the middle; the right side's are their mirror images.

        Raises:
            InputError: the file is missing or damaged.
        """
        arrays, metadata = read_tensors(path, _LAYOUTS)
        try:
            stored = json.loads(metadata["actions"])
            if len(stored) != len(arrays["maps"]) or not set(stored) <= set(facs.INTENSITY_NAMES):
                raise ValueError(f"{len(stored)} actions for {len(arrays['maps'])} maps")
        except (KeyError, TypeError, ValueError, RecursionError) as exc:
            raise InputError(
                f"{path} can't be read ({exc}): expected fold maps made by `python -m trainer folds`. "
                "Reinstall the package or make them again."
            ) from exc
        maps = arrays["maps"].astype(np.float32)
        right = [n for n, name in enumerate(stored) if name.endswith("_L")]
        actions = (*stored, *(facs.other_side(stored[n]) for n in right))
        return cls(actions, np.concatenate([maps, maps[right, :, ::-1]]), arrays["landmarks"].astype(np.float32))


class Folds:
    """The folds of one portrait."""

    def __init__(self, maps: FoldMaps, canvas: Canvas, anatomy: Anatomy, field: PortraitField) -> None:
        self.places = np.array([facs.INDEX[name] for name in maps.actions])
        points = anatomy.points_px[:, :2]
        low, high = points.min(0), points.max(0)
        margin = _MARGIN * float((high - low).max())
        self.grid = Grid.covering((*(low - margin), *(high + margin)), _CELLS)
        at = _on_chart(maps, points, self.grid)
        flags = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}
        self.basis = np.stack([cv2.remap(one, at, None, **flags).ravel() for one in maps.maps])
        """`(F, rows * columns)` float32: logarithm of the ratio at intensity 5, on the portrait's `grid`."""
        face = _face(canvas.still, self.grid)
        self.shares = _shares(face, np.abs(self.basis).max(0).reshape(self.grid.shape))
        """`(3,)` what red, green and blue take of it."""
        self.most_bright = _most_bright(face, self.shares)
        """`(rows, columns)` float32: what the logarithm of a ratio approaches where skin becomes lighter."""
        self._head, self._window = field.head.grid, field.face_window
        cells = field.head.grid.positions_px()[self._window] - np.array(self.grid.origin_px, np.float32)
        self._cells, self._cells_a_px = np.ascontiguousarray(cells), np.float32(1 / self.grid.cell_px)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) canvas px of what may be shaded."""
        rows, columns = self._window
        (left, top), cell = self._head.left_top_px, self._head.cell_px
        x0, x1 = (left + int(column) * cell for column in (columns.start, columns.stop))
        y0, y1 = (top + int(row) * cell for row in (rows.start, rows.stop))
        return x0, y0, x1, y1

    def ratio(self, backward: np.ndarray, control: np.ndarray, baseline: np.ndarray) -> np.ndarray | None:
        """`(h, w, 3)` float32: how much brighter the colours in `box` become; None at the portrait's own expression.

        `backward` `(rows, columns, 2)` px leads from the head grid's cells to what they show; `control` and `baseline`
        `(SIZE,)`.
        """
        amounts = (control[self.places] - baseline[self.places]) * np.float32(1 / facs.MAX_INTENSITY)
        if np.abs(amounts).max() < _LEAST_AMOUNT:
            return None
        change = (amounts @ self.basis).reshape(self.grid.shape)
        most = np.where(change < 0, np.float32(MOST_DARK), self.most_bright)
        change = most * np.tanh(change / most)
        shown = (self._cells + backward[self._window]) * self._cells_a_px
        shown = cv2.resize(shown, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_LINEAR)
        change = cv2.remap(change, shown, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        ratio = cv2.exp(cv2.multiply(in_colours(change), (*map(float, self.shares), 0.0)))
        x0, y0, x1, y1 = self.box
        return cv2.resize(ratio, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)

    def shade(self, moved: np.ndarray, region: tuple[int, int, int, int], ratio: np.ndarray) -> None:
        """Skin `moved` `(h, w, 3)` uint8, which is the canvas's `region` (x0, y0, x1, y1), with its ratio, in place."""
        x0, y0, x1, y1 = self.box
        left, top, right, bottom = region
        x_from, y_from, x_to, y_to = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
        skin = moved[y_from - top : y_to - top, x_from - left : x_to - left]
        ratio = ratio[y_from - y0 : y_to - y0, x_from - x0 : x_to - x0]
        skin[...] = cv2.multiply(skin, ratio, dtype=cv2.CV_8U)  # rounded and limited


def _face(still: np.ndarray, grid: Grid) -> np.ndarray:
    """`(rows, columns, 3)` uint8: the mean colours of a portrait's face in each cell of its grid."""
    (left, top), (rows, columns), cell = grid.left_top_px, grid.shape, grid.cell_px
    place = np.array([[1, 0, left], [0, 1, top]], np.float32)
    size, flags = (columns * cell, rows * cell), cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    face = cv2.warpAffine(still, place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(face, (columns, rows), interpolation=cv2.INTER_AREA)


def _most_bright(face: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """`(rows, columns)` float32 up to `MOST_BRIGHT`, less where a colour of the face would become too light."""
    left = np.log(LIGHTEST / np.maximum(face, 1)) / shares
    return np.clip(cv2.blur(left.min(-1), (3, 3)), _LEAST_BRIGHT, MOST_BRIGHT).astype(np.float32)


def _shares(face: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """`(3,)`: how much each colour changes where brightness does, in the portrait's own shades.

    Skin lights its own hollows, so that they turn redder; stone does not, and a painter has a palette. `face` `(rows,
    columns, 3)` is the portrait's on its grid, `folds` `(rows, columns)` says where skin is shaded at all.
    """
    planes = [np.log(plane + _DARKEST) for plane in (*cv2.split(face), cv2.cvtColor(face, cv2.COLOR_RGB2GRAY))]
    weight = np.minimum(folds / _SHADED, 1).astype(np.float32)
    around = np.maximum(cv2.GaussianBlur(weight, (0, 0), _SHADES_CELLS), 1e-3)
    details = [
        (plane - cv2.GaussianBlur(plane * weight, (0, 0), _SHADES_CELLS) / around) * weight
        for plane in (plane.astype(np.float32) for plane in planes)
    ]
    *colours, brightness = details
    spread = float((brightness * brightness).sum()) + _LEAST_SPREAD
    shares = [(float((colour * brightness).sum()) + _LEAST_SPREAD) / spread for colour in colours]
    return np.clip(shares, *_SHARE_LIMITS).astype(np.float32)


def _on_chart(maps: FoldMaps, points_px: np.ndarray, grid: Grid) -> np.ndarray:
    """`(rows, columns, 2)` float32: the place on the chart of each cell of a portrait's grid."""
    rows, columns = grid.shape
    coarse = Grid(grid.left_top_px, grid.cell_px * _COARSE, (-(-rows // _COARSE), -(-columns // _COARSE)))
    queries = coarse.positions_px().reshape(-1, 2)
    softness = _SOFTNESS * float(np.ptp(points_px, axis=0).max())
    operator = interpolation_operator(points_px, queries, softness=softness, smoothing=1e-4)
    at = (operator @ maps.landmarks).reshape(*coarse.shape, 2).astype(np.float32)
    size = (coarse.shape[1] * _COARSE, coarse.shape[0] * _COARSE)
    return np.ascontiguousarray(cv2.resize(at, size, interpolation=cv2.INTER_LINEAR)[:rows, :columns])
