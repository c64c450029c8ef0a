"""Portrait field: what every action and every turn of the head does to every point of the portrait.

Built once per portrait on a coarse grid over the head: the depth of the head's surface, a weight that lets the turn of
the head fade into hair, neck and background (zero at the border), and a displacement per action that fades out round
the face. After Athar et al. 2019 (motion first), with the motion's basis taken from anatomy instead of learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from puppet.generate.anatomy import LIP_CORNERS, LOWER_INNER_LIP, UPPER_INNER_LIP, Anatomy, ring
from puppet.generate.scatter import interpolation_operator
from puppet.landmarks import FACE_COUNT
from puppet.rig import OUTLINE_START, LandmarkRig

GRID_CELLS = 100
"""Cells on the longer side of the head's region."""

_HEAD_REACH = 1.45  # the region reaches this many face heights from the face's centre
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

    def to_pixels(self, values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Values of the cells, bilinear at every pixel of the window; `out` is written to where its shape fits."""
        rows, columns = self.shape
        size = (columns * self.cell_px, rows * self.cell_px)
        return cv2.resize(values, size, dst=out, interpolation=cv2.INTER_LINEAR)


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

    It may reach over the picture's top and sides, so that a head close to them is not held by its hair (the border's
    pixels are repeated there). The shoulders rest on the picture's bottom.
    """
    centre = anatomy.points_px[[234, 454, 10, 152], :2].mean(0)
    reach = _HEAD_REACH * anatomy.face_height_px
    low, high = np.floor(centre - reach), np.ceil(centre + reach)
    return float(low[0]), float(low[1]), float(high[0]), float(min(high[1], canvas_size[1] - 1))


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
