"""Own mouth: the teeth that an open-mouthed portrait shows, kept as its own while its lips move.

Its upper part belongs to the skull, what hangs lower to the jaw. At rest it is shown as it is. As the lips leave their
place only teeth stay of it: the lips' rim and what is hollow fade away, and the upper teeth go on under the lip that
uncovers more of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from puppet.generate.anatomy import Anatomy
from puppet.generate.canvas import Canvas
from puppet.generate.layers import cut_out
from puppet.generate.slit import FULLY_MOVED_PX, Opening

_UPPER_CM = 1.0  # this much of an open mouth below the upper lip is upper teeth, the rest goes with the jaw
_RIM_CM = 0.06  # above the lower lip's edge: its red, where landmarks are a little off
_REACH_CM = 0.25  # upper teeth go on so far under the lip
_LEAST_TEETH_PX = 8
_TOOTH_LIGHT = (0.3, 0.45)  # of white in the portrait's light: darker is hollow, lighter a tooth
_TOOTH_RED = (0.95, 1.1)  # red against green and blue, as a share of the skin's: less is a tooth, more a lip
_LEAST_TEETH = 0.3  # of what is inside: lips a little apart mostly show a dark slit, and drawn teeth are better then
AT_REST_PX = 0.25  # lips this near to their place in the portrait are in it


@dataclass(frozen=True)
class OwnLook:
    """`rgb` `(h, w, 3)` float32 0-255; alpha `(h, w)` float32 0-1 of what goes with the skull and with the jaw."""

    rgb: np.ndarray
    upper_alpha: np.ndarray
    lower_alpha: np.ndarray


@dataclass(frozen=True)
class OwnMouth:
    """One crop of the canvas, whose left top pixel is `origin`, as the portrait shows it and once its lips have moved.

    `gap_px` is the lips' greatest distance in the portrait.
    """

    origin: tuple[int, int]
    rest: OwnLook
    parted: OwnLook
    gap_px: float

    def look(self, gap_px: float) -> OwnLook:
        """What is shown while the lips are `gap_px` apart."""
        share = min(max(abs(gap_px - self.gap_px) - AT_REST_PX, 0.0) / FULLY_MOVED_PX, 1.0)
        if share in (0.0, 1.0):
            return self.parted if share else self.rest
        pairs = zip(vars(self.rest).values(), vars(self.parted).values(), strict=True)
        return OwnLook(*(cv2.addWeighted(rest, 1 - share, parted, share, 0) for rest, parted in pairs))


def read_own_mouth(canvas: Canvas, anatomy: Anatomy, opening: Opening, white: np.ndarray, skin: np.ndarray) -> OwnMouth:
    """The mouth of a portrait whose lips stand apart; `opening` is that of the portrait itself.

    `white` and `skin` `(3,)` 0-255 are what those look like in its light.
    """
    px_per_cm = anatomy.fit.scale_px_per_cm
    pad = int(np.ceil(_REACH_CM * px_per_cm)) + 3
    x0, y0, x1, y1 = opening.window
    rgb = cut_out(canvas.still, np.array([x0 - pad, y0 - pad]), np.array([x1 + pad, y1 + pad])).astype(np.float32)
    mask = np.pad(opening.mask, pad)
    above = _UPPER_CM * px_per_cm - np.pad(opening.depth_px, pad, mode="edge")  # px above the upper teeth's end
    # The lower part reaches a pixel under the upper one, so that no line shows between them; no further, or upper
    # teeth would go down with the jaw a second time.
    parts = (np.clip(above + 0.5, 0, 1), np.clip(1.5 - above, 0, 1))
    rest = _at_rest(rgb, mask, parts)
    parted = _parted(rgb, mask, parts, px_per_cm, _teeth(rgb, white, skin))
    return OwnMouth((x0 - pad, y0 - pad), rest, parted, float(opening.gap_px.max()))


def _teeth(rgb: np.ndarray, white: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """`(h, w)` float32 0-1: how much like a tooth a pixel is."""

    def red(colour: np.ndarray) -> np.ndarray:
        return colour[..., 0] / np.maximum(colour[..., 1:].mean(-1), 1.0)

    dark, light = _TOOTH_LIGHT
    tooth, lip = _TOOTH_RED
    is_light = np.clip((rgb.mean(-1) / max(float(white.mean()), 1.0) - dark) / (light - dark), 0, 1)
    is_pale = np.clip((lip - red(rgb) / red(skin)) / (lip - tooth), 0, 1)
    return (is_light * is_pale).astype(np.float32)


def _at_rest(rgb: np.ndarray, mask: np.ndarray, parts: tuple[np.ndarray, np.ndarray]) -> OwnLook:
    """All that lies in the opening `mask` `(h, w)` 0-1; `parts` are the skull's and the jaw's shares in it."""
    cover = cv2.dilate((mask > 0).astype(np.uint8), np.ones((3, 3), np.uint8))  # all of the opening's soft edge
    soft = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 1.0)
    cover = np.where(cover > 0, 1.0, soft).astype(np.float32)
    return OwnLook(rgb, *((cover * part).astype(np.float32) for part in parts))


def _parted(
    rgb: np.ndarray, mask: np.ndarray, parts: tuple[np.ndarray, np.ndarray], px_per_cm: float, teeth: np.ndarray
) -> OwnLook:
    """Teeth alone, without the lips' rims, the upper ones continued upwards; nothing where hardly any are seen."""
    inside = cv2.erode((mask > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8))
    inside = cv2.erode(inside, _upright(below=max(1, round(_RIM_CM * px_per_cm))))
    count = int(inside.sum())
    if count < _LEAST_TEETH_PX or teeth[inside > 0].mean() < _LEAST_TEETH:
        nothing = np.zeros(mask.shape, np.float32)
        return OwnLook(rgb, nothing, nothing)
    _, nearest = cv2.distanceTransformWithLabels(1 - inside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((nearest.max() + 1, 4), np.float32)
    colours[nearest[inside > 0]] = np.dstack([rgb, teeth])[inside > 0]
    continued = colours[nearest]
    continued = np.where(inside[..., None] > 0, continued, cv2.GaussianBlur(continued, (0, 0), 1.0))
    wider = cv2.dilate(inside, np.ones((1, 3), np.uint8))
    higher = cv2.dilate(inside, _upright(below=round(_REACH_CM * px_per_cm)))
    covers = (np.maximum(wider, higher), wider)
    alpha = (cover * part * continued[..., 3] for cover, part in zip(covers, parts, strict=True))
    soft = (cv2.GaussianBlur(some.astype(np.float32), (0, 0), 0.8) for some in alpha)
    return OwnLook(np.ascontiguousarray(continued[..., :3]), *soft)


def _upright(*, below: int) -> np.ndarray:
    """`(2 * below + 1, 1)`: a pixel looks so far down."""
    kernel = np.zeros((2 * below + 1, 1), np.uint8)
    kernel[below:] = 1
    return kernel
