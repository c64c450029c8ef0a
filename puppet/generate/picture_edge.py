"""Picture's edge: hair that touches it is stretched, not continued, when the head moves away from it.

A portrait whose head is cut off by the picture's edge says nothing of what lies beyond. The pixels of the edge repeated
would stand there as stubs and streaks; so what stands out from the background comes to rest at the edge, as far as
something beyond it would be shown, and only over the room between the edge and the face. Plain background is repeated:
nobody sees it, and the head keeps its shape. A head that moves towards an edge leaves the picture as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from puppet.easing import smooth_step
from puppet.generate.anatomy import Anatomy
from puppet.generate.canvas import Canvas
from puppet.generate.field import Grid
from puppet.landmarks import OVAL

_MOST_HELD = 0.5  # of the room: what an edge may hold, so that hair is stretched to four times its length at most
_LEAST_ROOM_CELLS = 2.0  # between the edge and the face: nothing can be stretched over less
_STRIP = 0.006  # of the picture's shorter side: depth of the edge that is looked at
_BACKGROUND = 0.2  # of the edge that the head's motion reaches, at both ends: what the rest is compared with
_STANDS_OUT = (14.0, 40.0)  # grey levels off the background: repeated unseen below, held above
_SOFT_CELLS = 25  # along the edge: hair beside what is held goes part of the way, or heads would become cones


@dataclass(frozen=True)
class Edge:
    """One edge of the picture on the head's grid.

    `axis` is the component of a displacement that leads across it: 0 (x) for left and right, 1 (y) for top and bottom;
    `sign`, 1 or -1, the way into the picture. `cell` is the column (or row) of cells on the edge, `reach` the rows and
    columns from there to the face. `share` -1 to 1, `(rows, columns)` of the reach, is how much of what it uncovers
    is taken back there, `most_px` how much of it counts.
    """

    axis: int
    sign: int
    cell: int
    reach: tuple[slice, slice]
    share: np.ndarray
    most_px: float


def read_edges(anatomy: Anatomy, grid: Grid, follow: np.ndarray, canvas: Canvas) -> tuple[Edge, ...]:
    """The edges that the head's motion reaches, that have room before the face and at which something stands out.

    `follow` `(rows, columns)` 0-1 of the head's `grid` is the share of the motion that each cell follows.
    """
    face = anatomy.points_px[list(OVAL), :2]
    cells = grid.positions_px()
    along = (cells[:, 0, 1], cells[0, :, 0])
    edges = []
    for axis, across in ((0, cells[0, :, 0]), (1, cells[:, 0, 1])):
        last = canvas.size[axis] - 1
        still = canvas.still if axis == 1 else canvas.still.transpose(1, 0, 2)
        for sign, edge_px, room in ((1, 0, face[:, axis].min()), (-1, last, last - face[:, axis].max())):
            cell = int(np.argmin(np.abs(across - edge_px)))
            reached = follow[:, cell] if axis == 0 else follow[cell]
            is_within = abs(across[cell] - edge_px) <= grid.cell_px
            if not is_within or reached.max() == 0 or room < _LEAST_ROOM_CELLS * grid.cell_px:
                continue
            held = _standing_out(still[::sign], along[axis], reached, grid.cell_px)
            if held.max() == 0:
                continue
            inwards = sign * (across - edge_px)
            near = np.flatnonzero((inwards > -2 * grid.cell_px) & (inwards < room))
            reach = slice(int(near[0]), int(near[-1]) + 1)
            most_px = float(_MOST_HELD * room)
            share = sign * np.outer(held, 1 - smooth_step(inwards[reach], 0, room)).astype(np.float32)
            if axis == 0:
                edges.append(Edge(axis, sign, cell, (slice(None), reach), share, most_px))
            else:
                edges.append(Edge(axis, sign, cell, (reach, slice(None)), share.T, most_px))
    return tuple(edges)


def hold(backward: np.ndarray, edges: tuple[Edge, ...]) -> np.ndarray:
    """A backward displacement `(rows, columns, 2)` px as the edges hold it, changed in place."""
    for edge in edges:
        across = backward[..., edge.axis]
        uncovered = np.clip(-edge.sign * across.take([edge.cell], 1 - edge.axis), 0, edge.most_px)
        if uncovered.any():
            across[edge.reach] += uncovered * edge.share
    return backward


def _standing_out(still: np.ndarray, along_px: np.ndarray, reached: np.ndarray, cell_px: int) -> np.ndarray:
    """0-1 for each cell along the first row of a picture `(H, W, 3)`: how far it stands out from the background.

    `along_px` `(cells,)` are the cells' places in it, each `cell_px` wide, `reached` `(cells,)` 0-1 how much of the
    head's motion each follows.
    """
    depth = max(1, round(_STRIP * min(still.shape[:2])))
    strip = still[:depth].astype(np.float32).mean(0)
    moving = along_px[reached > 0]
    first, last = np.clip([moving[0], moving[-1]], 0, len(strip) - 1).astype(int)
    count = max(1, round(_BACKGROUND * (last + 1 - first)))
    ends = [np.median(strip[first : first + count], 0), np.median(strip[last + 1 - count : last + 1], 0)]
    places = np.clip((np.arange(len(strip)) - first) / max(1, last - first), 0, 1)[:, None]
    off = np.abs(strip - (ends[0] + (ends[1] - ends[0]) * places)).max(1)
    off = cv2.blur(off[None], (2 * cell_px + 1, 1), borderType=cv2.BORDER_REPLICATE)[0]
    seen = smooth_step(np.interp(along_px, np.arange(len(off)), off), *_STANDS_OUT).astype(np.float32)
    widened = cv2.dilate(seen[None], np.ones((1, _SOFT_CELLS), np.uint8))
    return cv2.blur(widened, (_SOFT_CELLS, 1), borderType=cv2.BORDER_REPLICATE)[0]
