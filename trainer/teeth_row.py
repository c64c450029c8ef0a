"""One row of teeth put together from several looks at it, and completed where no look shows it.

Everything here thinks of an upper row, whose edge points down; a lower one is turned upside down before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trainer.teeth_align import align
from trainer.teeth_looks import GREYS, Look, LookPair

_LEAST_LOOKS = 2
_LEAST_AGREEMENT = 0.55  # correlation with the best look under which a look has been laid wrongly
_MOST_BLENDED = 3  # looks that are averaged where the best one sees; more would be softer
_FRONTAL_RAD = 0.25
_LEAST_SEEN = 3  # looks that must show a pixel which the best one does not
_RED = 0.035  # of a pixel's three colours together, more than a tooth's
_UNSHADED = 0.5
_LEAST_TOOTH_CM = 0.12  # of a tooth, for its column to belong to the row
_BRIGHT_SHARE = 0.35  # of the looks may show something dark in a tooth's place
_ASIDE_RAD = 0.12
_LEAST_WIDTH_CM = 1.5  # of a row
_LEAST_SHARE = 0.6  # of a row that must look like teeth
_LEAST_CM2 = 0.2  # of teeth, for a row to be taken
_LEAST_LEVEL = 0.5  # of the other row's grey: what is darker is no row of teeth
_STEEPEST = 2  # rows a column that the edge of a row of teeth climbs
_BEND = 0.03  # what each such row costs, in shares of the step from tooth to dark


@dataclass(frozen=True)
class Row:
    """A row of teeth in the plane of its picture, where the looks show it.

    `rgb` `(H, W, 3)` float32; `known` `(H, W)` float32 0-1; `edge` `(W,)` float, the row of pixels where the teeth end,
    NaN in columns without any; `matrices` lead from the row's plane to each look's, None for looks that are not among
    the `used`; `level` is the grey of a tooth.
    """

    rgb: np.ndarray
    known: np.ndarray
    edge: np.ndarray
    matrices: list[np.ndarray | None]
    used: int
    level: float

    @property
    def white(self) -> np.ndarray:
        """`(3,)` the teeth's colour."""
        rows = np.arange(len(self.rgb))[:, None]
        return np.median(self.rgb[(self.known > 0.5) & (rows < np.nan_to_num(self.edge, nan=-1))], 0)


def gather(
    looks: list[Look],
    pairs: list[LookPair],
    px_per_cm: float,
    *,
    lower_px: float = 0.0,
    usual_level: float | None = None,
) -> Row | None:
    """The row that looks show; None where they show too little of it.

    `pairs` are the frames of the looks, `lower_px` how much lower than where it was seen the row is laid, `usual_level`
    the grey of known teeth.
    """
    if len(looks) < _LEAST_LOOKS:
        return None
    turned_rad, aside_rad = (np.array([getattr(pair, name) for pair in pairs]) for name in ("turned_rad", "aside_rad"))
    amounts = np.array([look.amount for look in looks])
    frontal = np.exp(-((turned_rad / _FRONTAL_RAD) ** 2))
    best = int(np.argmax(amounts * frontal))
    if (looks[best].seen * looks[best].tooth).sum() < _LEAST_CM2 * px_per_cm**2:
        return None
    greys = [look.grey for look in looks]
    weights = [(look.seen * (0.15 + 0.85 * look.tooth)).astype(np.float32) for look in looks]
    found = [align(g, w, greys[best], weights[best], px_per_cm) for g, w in zip(greys, weights, strict=True)]
    agreement = np.array([score for _, score in found])
    agreement[best] = 1.0
    used = np.flatnonzero(agreement > _LEAST_AGREEMENT)
    # The best look stands where its own tracking put it; the row belongs in the middle of all that look the same way
    # as the closed mouth did.
    centre = _centre(weights[best])
    ways = np.array([found[n][0] for n in used])
    places = ways[:, :, :2] @ centre + ways[:, :, 2] - centre
    usual_way = middle(np.c_[ways[:, :, :2].reshape(-1, 4), places], np.exp(-((aside_rad[used] / _ASIDE_RAD) ** 2)))
    linear = usual_way[:4].reshape(2, 2)
    shift = usual_way[4:] + np.array([0.0, lower_px]) + centre - linear @ centre
    row_from_best = np.vstack([np.c_[linear, shift], [0, 0, 1]])
    best_from_row = np.linalg.inv(row_from_best)
    matrices = [found[n][0] @ best_from_row if n in used else None for n in range(len(looks))]
    size = greys[best].shape[1::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    rgb = np.stack([cv2.warpAffine(looks[n].rgb, matrices[n], size, flags=flags) for n in used])
    seen, tooth, shade = (
        np.stack([cv2.warpAffine(plane, matrices[n], size, flags=flags) for n, plane in enumerate(planes) if n in used])
        for planes in ([look.seen for look in looks], [look.tooth for look in looks], [look.shade for look in looks])
    )
    own = int(np.flatnonzero(used == best)[0])
    rgb *= _gains(rgb, seen * tooth, own)[:, None, None]
    quality = (amounts * frontal / (amounts * frontal)[best])[used] * np.clip((agreement[used] - 0.5) / 0.5, 0, 1) ** 2
    first = np.argsort(-quality)[:_MOST_BLENDED]
    rank = np.full(len(used), 1e-3)
    rank[first] = 1.0
    grey = rgb @ GREYS
    level = float(np.median(grey[own][(seen[own] * tooth[own]) > 0.5]))
    if usual_level is not None and level < _LEAST_LEVEL * usual_level:
        return None
    usual = _percentile(grey, seen > 0.3, 0.5)
    alike = 1 / (1 + ((grey - usual) / (0.15 * level)) ** 2)
    weight = (quality * rank)[:, None, None] * seen * alike
    total = weight.sum(0)
    unshaded = rgb / np.maximum(shade, 0.2)[..., None] ** _UNSHADED
    blended = (weight[..., None] * unshaded).sum(0) / np.maximum(total, 1e-9)[..., None]
    known = ((seen[own] > 0.4) | ((seen > 0.5).sum(0) >= _LEAST_SEEN)) & (total > 1e-6) & ~_red(blended, level)
    # Below its edge a row is dark in some looks: what is bright in nearly all of them belongs to it.
    least = _percentile(grey, seen > 0.3, _BRIGHT_SHARE) / level
    teeth = _percentile(tooth, seen > 0.3, 0.5)
    edge = _edge(np.where(known, least, np.nan), np.where(known, teeth, 0), px_per_cm)
    rows = np.arange(size[1])[:, None]
    inside = known & (rows <= np.nan_to_num(edge, nan=-1) + 1)
    soft = cv2.GaussianBlur(cv2.erode(inside.astype(np.uint8), np.ones((3, 3))).astype(np.float32), (0, 0), 1.5)
    soft = np.where(rows > np.nan_to_num(edge, nan=-1) - 3, inside, soft * inside)
    teeth = soft * (teeth > 0.5)
    if np.isfinite(edge).sum() < _LEAST_WIDTH_CM * px_per_cm or teeth.sum() < _LEAST_SHARE * soft.sum():
        return None
    return Row(blended.astype(np.float32), soft.astype(np.float32), edge, matrices, len(used), level)


def complete(row: Row, drawn: np.ndarray, px_per_cm: float) -> tuple[np.ndarray, np.ndarray]:
    """`(H, W, 4)` float32 RGBA (0-255, alpha 0-1), and by how many pixels its edge is below the drawn one's `(W,)`.

    `drawn` `(H, W, 4)` uint8 is the rig's picture, which stands in where nobody saw the row.
    """
    height, width = drawn.shape[:2]
    shift = drop(row, drawn)
    white = drawn_white(drawn)
    moved = moved_by(drawn, shift)
    colours = moved[..., :3] * (row.white / white)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.flatnonzero(np.isfinite(row.edge))
    first, last = columns[0], columns[-1]
    known = row.known.copy()
    # Upwards the teeth go on as they were seen last, to where the drawn gum begins.
    above = _carried_up(row.rgb, known)
    gum = _below_gums(known, moved, px_per_cm)[..., None]
    upper = above * gum + colours * (1 - gum)
    # Sideways they fade into the drawn ones, as dark as they are there.
    band = max(2, round(0.3 * px_per_cm))
    light = np.ones(width, np.float32)
    for columns_at, beyond in (((first, first + band), slice(0, first)), ((last - band, last), slice(last, width))):
        part = slice(max(0, columns_at[0]), columns_at[1] + 1)
        mask = known[:, part] > 0.5
        if mask.sum() > 20:
            theirs = mask & (_teeth_of(moved[:, part]) > 0.5)
            drawn_grey = float((colours[:, part][theirs] @ GREYS).mean()) if theirs.any() else np.inf
            light[beyond] = np.clip((row.rgb[:, part][mask] @ GREYS).mean() / max(drawn_grey, 1.0), 0.25, 1.1)
    inside = np.zeros(width, np.float32)
    inside[first : last + 1] = 1
    ramp = round(0.12 * px_per_cm)
    inside = np.minimum(cv2.blur(inside[None], (2 * ramp + 1, 1))[0] * 2, 1) * inside
    side = colours * light[None, :, None]
    other = side + (upper - side) * inside[None, :, None]
    share = (known * np.minimum(1, _from_ends(first, last, width) / ramp))[..., None]
    rgb = other + (row.rgb - other) * share
    edge = np.where(np.isfinite(row.edge), row.edge, np.inf)
    own_alpha = np.clip((edge - rows) / 1.5 + 0.5, 0, 1)
    alpha = moved[..., 3] / 255
    gums = _highest(moved)
    own_alpha = np.where(rows < gums, alpha, own_alpha)
    alpha = alpha + (own_alpha - alpha) * (inside * np.isfinite(row.edge))[None]
    return np.dstack([rgb, alpha]).astype(np.float32), shift


def drop(row: Row, drawn: np.ndarray) -> np.ndarray:
    """`(W,)` float32 px: how far a row ends below a drawn one, smooth, as at its ends beyond them."""
    own, theirs = row.edge, _lowest(drawn)
    both = np.isfinite(own) & np.isfinite(theirs)
    columns = np.arange(len(own))
    if both.sum() < 5:
        return np.zeros(len(own), np.float32)
    gap = np.interp(columns, columns[both], (own - theirs)[both]).astype(np.float32)
    return cv2.GaussianBlur(gap[None], (0, 0), 12, borderType=cv2.BORDER_REPLICATE)[0]


def moved_by(drawn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """A picture `(H, W, 4)` as float32 with each column moved down by so many pixels."""
    height, width = drawn.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(drawn, x, y - shift[None].astype(np.float32), cv2.INTER_LINEAR).astype(np.float32)


def drawn_white(drawn: np.ndarray) -> np.ndarray:
    """`(3,)` colour of a drawn row's front teeth."""
    teeth = _teeth_of(drawn.astype(np.float32)) > 0.5
    third = drawn.shape[1] // 3
    teeth[:, :third] = teeth[:, -third:] = False
    return np.median(drawn[..., :3][teeth].astype(np.float32), 0)


def _teeth_of(drawn: np.ndarray) -> np.ndarray:
    """`(H, W)` float32 0 or 1: drawn teeth, as against drawn gums."""
    red = drawn[..., 0] - drawn[..., 2]
    return ((red < 0.3 * drawn[..., 0]) & (drawn[..., 3] > 127)).astype(np.float32)


def _lowest(drawn: np.ndarray) -> np.ndarray:
    """`(W,)` float: the last opaque row of each column, NaN without one."""
    opaque = drawn[..., 3] > 127
    last = len(drawn) - 1 - np.argmax(opaque[::-1], 0)
    return np.where(opaque.any(0), last, np.nan).astype(np.float32)


def _highest(drawn: np.ndarray) -> np.ndarray:
    opaque = drawn[..., 3] > 127
    return np.where(opaque.any(0), np.argmax(opaque, 0), 0)[None]


def _carried_up(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The usual colour of the known pixels of each column, in all rows; columns without any take their neighbours'."""
    sure = known > 0.5
    columns = np.flatnonzero(sure.any(0))
    colours = np.stack([np.median(rgb[sure[:, c], c], 0) for c in columns])
    every = np.stack([np.interp(np.arange(rgb.shape[1]), columns, colours[:, k]) for k in range(3)], 1)
    every = cv2.GaussianBlur(every[None].astype(np.float32), (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE)
    return np.broadcast_to(every, rgb.shape)


def _below_gums(known: np.ndarray, drawn: np.ndarray, px_per_cm: float) -> np.ndarray:
    """`(H, W)` float32 1 where there are teeth rather than gums: from a little above what was seen, or from where the
    drawn ones begin, if that is higher."""
    columns = np.arange(known.shape[1])
    tops = []
    for mask in (known > 0.5, _teeth_of(drawn) > 0.5):
        there = mask.any(0)
        tops.append(np.interp(columns, columns[there], np.argmax(mask, 0)[there]))
    reach = round(0.35 * px_per_cm)
    top = np.minimum(tops[0] - 0.1 * px_per_cm, np.median(tops[1][columns[0] + reach : -reach]))
    top = cv2.erode(top[None].astype(np.float32), np.ones((1, 2 * reach + 1)))
    top = cv2.GaussianBlur(top, (0, 0), reach / 2, borderType=cv2.BORDER_REPLICATE)
    rows = np.arange(known.shape[0], dtype=np.float32)[:, None]
    return np.clip((rows - top) / (0.08 * px_per_cm) + 0.5, 0, 1)


def _from_ends(first: int, last: int, width: int) -> np.ndarray:
    columns = np.arange(width)
    return np.maximum(np.minimum(columns - first, last - columns), 0)[None].astype(np.float32)


def middle(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted median of each column of `values` `(N, C)`."""
    out = []
    for column in values.T:
        order = np.argsort(column)
        total = np.cumsum(weights[order] + 1e-6)
        out.append(column[order][np.searchsorted(total, total[-1] / 2)])
    return np.array(out)


def _centre(weight: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(weight > 0.5)
    return np.array([columns.mean(), rows.mean()])


def _red(rgb: np.ndarray, level: float) -> np.ndarray:
    """`(H, W)` bool: much redder than most of what is as bright as teeth: lip or gum."""
    share = rgb[..., 0] / np.maximum(rgb.sum(-1), 1.0)
    bright = rgb @ GREYS > 0.6 * level
    if not bright.any():
        return np.zeros(bright.shape, bool)
    red = (share > np.median(share[bright]) + _RED) & (rgb @ GREYS > 0.3 * level)
    return cv2.dilate(cv2.morphologyEx(red.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))), np.ones((3, 3))) > 0


def _gains(rgb: np.ndarray, weight: np.ndarray, own: int) -> np.ndarray:
    """`(N, 3)`: what brings each look's teeth to the light of the look `own`."""
    out = np.ones((len(rgb), 3), np.float32)
    for n in range(len(rgb)):
        both = (weight[n] * weight[own])[..., None]
        if both.sum() > 50:
            out[n] = np.clip((both * rgb[own]).sum((0, 1)) / np.maximum((both * rgb[n]).sum((0, 1)), 1), 0.5, 2.0)
    return out


def _percentile(values: np.ndarray, where: np.ndarray, share: float) -> np.ndarray:
    """`(H, W)`: the value that so large a share of the N looks which see a pixel stay under, infinite without any."""
    order = np.sort(np.where(where, values, np.inf), 0)
    place = np.floor(share * np.maximum(where.sum(0) - 1, 0)).astype(int)
    return np.take_along_axis(order, place[None], 0)[0]


def _edge(light: np.ndarray, teeth: np.ndarray, px_per_cm: float) -> np.ndarray:
    """`(W,)` the row where the teeth end: the path of steps from light to dark that costs least, NaN beside the teeth.

    `light` `(H, W)` is 1 for a tooth, NaN where nobody looked; `teeth` `(H, W)` 0-1.
    """
    depth = max(2, round(0.08 * px_per_cm))
    height, width = light.shape
    known = np.isfinite(light)
    padded = np.where(known, light, 0)
    box = np.ones((depth, 1), np.float32)

    def mean_of(plane: np.ndarray, counted: np.ndarray, anchor: int) -> tuple[np.ndarray, np.ndarray]:
        total = cv2.filter2D((plane * counted).astype(np.float32), -1, box, anchor=(0, anchor), borderType=0)
        count = cv2.filter2D(counted.astype(np.float32), -1, box, anchor=(0, anchor), borderType=0)
        return total / np.maximum(count, 1), count

    above, above_count = mean_of(padded, known, depth - 1)
    below, below_count = mean_of(np.roll(padded, -1, 0), np.roll(known, -1, 0), 0)
    toothed, _ = mean_of(teeth, known, depth - 1)
    step = np.clip(above - below, 0, 1) * toothed * (above_count >= depth / 2) * (below_count >= depth / 2)
    best, came = step[:, 0].copy(), np.zeros((width, height), int)
    moves = range(-_STEEPEST, _STEEPEST + 1)
    for column in range(1, width):
        options = np.stack([np.roll(best, move) - _BEND * abs(move) for move in moves])
        choice = options.argmax(0)
        came[column] = np.arange(height) - (choice - _STEEPEST)
        best = options[choice, np.arange(height)] + step[:, column]
    path = np.empty(width, int)
    path[-1] = int(best.argmax())
    for column in range(width - 1, 0, -1):
        path[column - 1] = np.clip(came[column, path[column]], 0, height - 1)
    edge = path.astype(np.float32) + 0.5
    rows = np.arange(height)[:, None]
    enough = ((teeth > 0.5) & known & (rows <= edge)).sum(0) >= _LEAST_TOOTH_CM * px_per_cm
    columns = np.flatnonzero(enough)
    edge[: columns[0] if len(columns) else width] = np.nan
    if len(columns):
        edge[columns[-1] + 1 :] = np.nan
    return edge
