"""Portrait field: what every action and every turn of the head does to every point of the portrait.

Built once per portrait on a coarse grid over the head: the depth of the head's surface, a weight that lets the turn of
the head fade into hair, neck and background (zero at the border), and a displacement per action that fades out round
the face. After Athar et al. 2019 (motion first), with the motion's basis taken from anatomy instead of learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from puppet.generate.anatomy import Anatomy, ring
from puppet.generate.scatter import interpolation_operator
from puppet.landmarks import FACE_COUNT, LIP_CORNERS, LOWER_INNER_LIP, UPPER_INNER_LIP
from puppet.rig import OUTLINE_START, LandmarkRig

GRID_CELLS = 100
"""Cells on the longer side of the head's region."""

_HEAD_REACH = 1.45  # the region reaches this many face heights from the face's centre
_LEAST_NECK = 0.4  # of the face's height below the chin, over which a head's motion comes to rest
_PIVOT_BACK, _PIVOT_UP = 0.75, 0.1  # the head turns about a point behind the chin, in face heights
_DEPTH_SOFTNESS = 0.10  # of the face's height; more than for actions, so that no cliff folds when the head turns
_DEPTH_SMOOTHING = 0.01
_STEEPEST = 1.3  # px of depth a px
_SOFTNESS = 0.02  # of the face's height: rounding of the interpolation
_FALLOFF_CELLS = 64


@dataclass(frozen=True)
class Grid:
    """Square cells of `cell_px` whole pixels over a window of the canvas that starts at pixel `left_top_px` (x, y)."""

    left_top_px: tuple[int, int]
    cell_px: int
    shape: tuple[int, int]  # rows, columns

    @classmethod
    def covering(cls, box: tuple[float, float, float, float], cells: int) -> Grid:
        """About `cells` cells along the longer side of a box (x0, y0, x1, y1), never finer than pixels."""
        left, top = int(np.floor(box[0])), int(np.floor(box[1]))
        width, height = box[2] + 1 - left, box[3] + 1 - top
        cell = max(1, round(max(width, height) / cells))
        return cls((left, top), cell, (int(np.ceil(height / cell)), int(np.ceil(width / cell))))

    @property
    def origin_px(self) -> tuple[float, float]:
        """Canvas position of the first cell's centre."""
        middle = (self.cell_px - 1) / 2
        return self.left_top_px[0] + middle, self.left_top_px[1] + middle

    def positions_px(self) -> np.ndarray:
        """`(rows, columns, 2)` float32 canvas positions (x, y) of the cells' centres."""
        rows, columns = self.shape
        x = self.origin_px[0] + self.cell_px * np.arange(columns)
        y = self.origin_px[1] + self.cell_px * np.arange(rows)
        return np.dstack(np.meshgrid(x, y)).astype(np.float32)

    def sources(
        self,
        displacement: np.ndarray,
        *,
        scale: int,
        travel: tuple[int, int] = (0, 0),
        rows: tuple[int, int] | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """What the window's pixels show, `(h, w, 2)` float32 (x, y) in texels of a texture `scale` times as dense.

        `displacement` `(rows, columns, 2)` px leads from the cells to what they show and is interpolated linearly;
        `travel` (x, y) px moves the window first; `rows` (first, last) are the pixel rows wanted, None for all. `out`
        is memory that may be used again.
        """
        cell = self.cell_px
        first, last = (0, self.shape[0]) if rows is None else (rows[0] // cell, -(-rows[1] // cell))
        # One more cell on each side: there the displacement is constant and the position goes on.
        above, below = int(first == 0), int(last == self.shape[0])
        some = displacement[first - 1 + above : last + 1 - below]
        at = cv2.copyMakeBorder(some, above, below, 1, 1, cv2.BORDER_REPLICATE)
        at += self._outer_positions_px()[first : last + 2]
        if travel != (0, 0):
            at += np.array(travel, np.float32)
        if scale != 1:
            at *= np.float32(scale)
        size = (at.shape[1] * cell, at.shape[0] * cell)
        texels = cv2.resize(at, size, dst=out, interpolation=cv2.INTER_LINEAR)
        top, bottom = (first * cell, last * cell) if rows is None else rows
        top, bottom = top - (first - 1) * cell, bottom - (first - 1) * cell
        return texels[top:bottom, cell:-cell]

    def empty_sources(self) -> np.ndarray:
        """Memory that `sources` can write a whole window to."""
        rows, columns = self.shape
        return np.empty(((rows + 2) * self.cell_px, (columns + 2) * self.cell_px, 2), np.float32)

    def _outer_positions_px(self) -> np.ndarray:
        """`(rows + 2, columns + 2, 2)` float32 positions of the cells and of one more on each side; read-only."""
        return _outer_positions(self.origin_px, self.cell_px, self.shape)


@lru_cache(maxsize=64)
def _outer_positions(origin_px: tuple[float, float], cell_px: int, shape: tuple[int, int]) -> np.ndarray:
    x = origin_px[0] + cell_px * np.arange(-1, shape[1] + 1)
    y = origin_px[1] + cell_px * np.arange(-1, shape[0] + 1)
    positions = np.dstack(np.meshgrid(x, y)).astype(np.float32)
    positions.flags.writeable = False
    return positions


@dataclass(frozen=True)
class Patch:
    """Surface and actions sampled on one grid.

    `position` `(3, rows, columns)` px (x, y, z away from the camera), `follow` `(rows, columns)` 0-1 how much of the
    head's turn is followed, `basis` `(K, 3 * rows * columns)` displacement of each action at weight 1.
    """

    grid: Grid
    position: np.ndarray
    follow: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True)
class PortraitField:
    """The field of one portrait: `head` over the whole region, `face` (a window of the same cells) with actions."""

    head: Patch  # its basis is empty: actions live on the face window
    face_window: tuple[slice, slice]
    face_basis: np.ndarray  # (K, 3 * rows * columns) of the window
    pivot_px: np.ndarray  # (3,)
    anatomy: Anatomy
    interpolate: SurfaceInterpolator


class SurfaceInterpolator:
    """Depth, follow weight and action displacement at any canvas position, for the head grid and finer windows."""

    def __init__(self, anatomy: Anatomy, rig: LandmarkRig, region: tuple[float, float, float, float]) -> None:
        self.anatomy = anatomy
        self.region = region
        fit = anatomy.fit
        outline = fit.project(rig.points(fit.identity, fit.weights)[OUTLINE_START:])
        skull = np.concatenate([rig.outline_groups["skull"], rig.outline_groups["ear"]]) - OUTLINE_START
        self.head_outline_px = outline[skull]
        self._depth_points = np.concatenate([anatomy.points_px, _beyond_face(self.head_outline_px, anatomy)])
        self._softness = _SOFTNESS * anatomy.face_height_px
        rings = [ring(anatomy.points_px, sides=s, chin=c) for s, c in ((1.32, 1.6), (1.6, 2.0), (2.2, 2.6))]
        self._still = np.concatenate([r[::2] for r in rings])
        self._fade_ring = ring(anatomy.points_px, sides=1.45, chin=1.75)
        self._follow, self._follow_grid = self._solve_follow()

    def depth(self, queries: np.ndarray) -> np.ndarray:
        """z in pixels at `(Q, 2)` positions, all at once: the face, and behind it the skull as one smooth surface."""
        points = self._depth_points
        softness = _DEPTH_SOFTNESS * self.anatomy.face_height_px
        operator = interpolation_operator(points[:, :2], queries, softness=softness, smoothing=_DEPTH_SMOOTHING)
        low, high = points[:, 2].min(), points[:, 2].max()
        deep = np.clip(operator @ points[:, 2].astype(np.float32), low, high)
        # What lies steeper is brought forward, as hair does it: a cliff would fold over the face when the head turns.
        return _limit_slope(queries, deep, _STEEPEST)

    def follow(self, queries: np.ndarray) -> np.ndarray:
        """0-1 at `(Q, 2)` positions: the share of the head's turn that the picture follows."""
        return _sample(self._follow, self._follow_grid, queries)

    def fade(self, queries: np.ndarray) -> np.ndarray:
        """0-1 at `(Q, 2)` positions: 1 on the face, 0 beyond the last ring; actions move nothing out there."""
        anatomy = self.anatomy
        x0, y0, x1, y1 = self.region
        grid = Grid.covering((x0, y0, x1, y1), 128)
        cell = grid.cell_px
        hull = np.round((self._fade_ring - grid.origin_px) / cell).astype(np.int32)
        mask = cv2.fillPoly(np.zeros(grid.shape, np.float32), [hull], 1.0)
        blur = 2 * int(0.14 * anatomy.face_height_px / cell) + 1
        inner = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (blur, blur)), borderValue=0)
        mask = cv2.blur(cv2.blur(inner, (blur // 2 | 1, blur // 2 | 1)), (blur // 2 | 1, blur // 2 | 1))
        return _sample(mask, grid, queries)

    def actions(self, queries: np.ndarray, *, without: tuple[int, ...] = ()) -> np.ndarray:
        """`(K, 3, Q)` displacement at `(Q, 2)` positions, interpolated from all landmarks but `without`.

        Leaving out one lip (or lid) gives the motion of the other one's side, continued across the opening.
        """
        keep = np.setdiff1d(np.arange(FACE_COUNT), np.array(without, int))
        points = np.concatenate([self.anatomy.points_px[keep, :2], self._still])
        operator = interpolation_operator(points, queries, softness=self._softness, smoothing=1e-4)
        operator = operator[:, : len(keep)] * self.fade(queries)[:, None]  # the rings' own values are zero
        moved = self.anatomy.action_px[:, keep]  # (K, n, 3)
        count = len(moved)
        flat = operator @ np.ascontiguousarray(moved.transpose(1, 0, 2).reshape(len(keep), -1))
        return np.ascontiguousarray(flat.reshape(-1, count, 3).transpose(1, 2, 0))

    def _solve_follow(self) -> tuple[np.ndarray, Grid]:
        """1 on the head, 0 on the region's border, harmonic between, softened."""
        from scipy.sparse import diags
        from scipy.sparse.linalg import spsolve

        grid = Grid.covering(self.region, _FALLOFF_CELLS)
        rows, columns = grid.shape
        head = np.concatenate([self.head_outline_px[:, :2], self.anatomy.points_px[:, :2]]).astype(np.float32)
        hull = cv2.convexHull(head)[:, 0]
        hull = hull.mean(0) + (hull - hull.mean(0)) * 1.02
        mask = np.zeros((rows, columns), np.uint8)
        cv2.fillPoly(mask, [np.round((hull - grid.origin_px) / grid.cell_px).astype(np.int32)], 1)
        fixed = mask > 0
        border = np.zeros_like(fixed)
        border[[0, -1]] = border[:, [0, -1]] = True
        # A head that touches the picture's edge must come to rest inside it.
        distance = cv2.distanceTransform(np.pad(1 - border.astype(np.uint8), 0), cv2.DIST_L2, 3)
        fixed &= distance > 3
        value = np.where(fixed, 1.0, 0.0).ravel()
        free = ~(fixed | border).ravel()
        n = rows * columns
        laplace = diags([1.0, 1.0, -4.0, 1.0, 1.0], [-columns, -1, 0, 1, columns], shape=(n, n), format="csr")
        solution = value.copy()
        solution[free] = spsolve(laplace[free][:, free], -(laplace[free] @ value))
        follow = cv2.GaussianBlur(solution.reshape(rows, columns).astype(np.float32), (0, 0), 1.2)
        edge = np.clip(distance / 3, 0, 1).astype(np.float32)
        return follow * edge, grid


def build_field(anatomy: Anatomy, rig: LandmarkRig, canvas_size: tuple[int, int]) -> PortraitField:
    """The field of one portrait on a canvas of `canvas_size` (width, height)."""
    region = head_region(anatomy, canvas_size)
    surface = SurfaceInterpolator(anatomy, rig, region)
    grid = Grid.covering(region, GRID_CELLS)
    position = grid.positions_px()
    queries = position.reshape(-1, 2)
    coarse = position[::4, ::4]
    depth = surface.depth(coarse.reshape(-1, 2)).reshape(coarse.shape[:2]).astype(np.float32)
    depth = cv2.GaussianBlur(_stretch(depth, grid.shape, 4), (0, 0), 2.0)
    follow = surface.follow(queries).reshape(grid.shape)
    window = _face_window(surface, grid)
    inside = position[window].reshape(-1, 2)
    lips = tuple(sorted(set(UPPER_INNER_LIP + LOWER_INNER_LIP) - set(LIP_CORNERS)))
    basis = surface.actions(inside, without=lips)
    head = Patch(
        grid,
        np.stack([position[..., 0], position[..., 1], depth]).astype(np.float32),
        follow.astype(np.float32),
        np.zeros((0, 0), np.float32),
    )
    chin, top = anatomy.points_px[152], anatomy.points_px[10]
    height = np.linalg.norm(chin - top)
    up = (top - chin) / height
    pivot = chin + _PIVOT_UP * height * up + np.array([0, 0, _PIVOT_BACK * height])
    return PortraitField(head, window, basis.reshape(len(basis), -1), pivot.astype(np.float32), anatomy, surface)


def head_region(anatomy: Anatomy, canvas_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) canvas px that may ever move; outside it every pixel is the portrait's own.

    It may reach over the picture's top and sides, so that a head close to them is not held by its hair (what shows of
    beyond them is up to `picture_edge`). The shoulders rest on the picture's bottom, unless the chin is so close to it
    that a head which nods would leave its chin behind: then what little there is of the neck goes along.
    """
    centre = anatomy.points_px[[234, 454, 10, 152], :2].mean(0)
    reach = _HEAD_REACH * anatomy.face_height_px
    low, high = np.floor(centre - reach), np.ceil(centre + reach)
    neck = np.ceil(anatomy.points_px[152, 1] + _LEAST_NECK * anatomy.face_height_px)
    bottom = min(high[1], max(canvas_size[1] - 1, neck))
    return float(low[0]), float(low[1]), float(high[0]), float(bottom)


def _beyond_face(outline_px: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """The outline points `(n, 3)` that lie well outside the face: nearer ones are hidden behind it, far deeper."""
    hull = cv2.convexHull(ring(anatomy.points_px, sides=1.12, chin=1.12).astype(np.float32))
    outside = [cv2.pointPolygonTest(hull, (float(x), float(y)), False) < 0 for x, y in outline_px[:, :2]]
    return outline_px[np.array(outside, bool)]


def _limit_slope(at: np.ndarray, depth: np.ndarray, steepest: float) -> np.ndarray:
    """The greatest surface that lies before `depth` `(Q,)` at `at` `(Q, 2)` and is nowhere steeper than asked."""
    at = at.astype(np.float32)
    squared = (at * at).sum(1)
    apart = np.sqrt(np.maximum(squared[:, None] + squared[None] - 2 * at @ at.T, 0))
    return (depth[None] + np.float32(steepest) * apart).min(1)


def _face_window(surface: SurfaceInterpolator, grid: Grid) -> tuple[slice, slice]:
    """Rows and columns of the grid on which any action moves anything."""
    fade = surface.fade(grid.positions_px().reshape(-1, 2)).reshape(grid.shape)
    rows, columns = np.flatnonzero(fade.max(1) > 0), np.flatnonzero(fade.max(0) > 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _stretch(values: np.ndarray, shape: tuple[int, int], step: int) -> np.ndarray:
    """Values known at every `step`-th cell, bilinear on all cells."""
    rows, columns = shape
    map_y, map_x = np.meshgrid(
        np.arange(rows, dtype=np.float32) / step, np.arange(columns, dtype=np.float32) / step, indexing="ij"
    )
    return cv2.remap(values, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _sample(values: np.ndarray, grid: Grid, queries: np.ndarray) -> np.ndarray:
    """Bilinear values at `(Q, 2)` canvas positions."""
    at = ((queries - np.array(grid.origin_px)) / grid.cell_px).astype(np.float32)
    # cv2.remap takes at most 32767 rows: fold the list into a picture.
    width = 256
    padded = np.pad(at, ((0, -len(at) % width), (0, 0))).reshape(-1, width, 2)
    out = cv2.remap(values.astype(np.float32), padded, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(-1)[: len(at)]
