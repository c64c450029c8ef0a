"""Lips: AU25 says how far the lips are apart, whatever jaw and lip actions would do by themselves.

In FACS the jaw may drop behind sealed lips and lips may part over closed teeth. The rig's actions open the mouth as a
side effect, so what they open too much is closed again by the lips, and what is missing the lips and then the jaw add.
Lips that a jaw parts are not the rig's, whose upper lip stays where it is: people who talk raise it into an arch.
"""

from __future__ import annotations

import numpy as np

from puppet import facs
from puppet.generate.anatomy import Anatomy
from puppet.landmarks import LOWER_INNER_LIP, UPPER_INNER_LIP

_AU25 = facs.INDEX["AU25"]
_MIDDLE = len(UPPER_INNER_LIP) // 2
CLOSE_UPPER = 0.3  # share of a closing gap that the upper lip covers
PART_UPPER = 0.4
SEALED = 0.1  # of the widest gap: what is asked for less than this is a mouth that closes
_BESIDE = 2  # landmarks from the corners on which lips that close must meet
MOST_PRESS = 0.35  # of the widest gap
LEAST_SHARE = 0.3  # of what presses the middle that is reckoned with beside it
LIPS_ALONE = 0.3  # of the widest gap: lips part so far before the jaw must help
ARCH = 0.19
"""Share of what the jaw parts by which both lips stand higher than the rig's: measured on people who talk."""


class Lips:
    """Parts and closes the lips of one portrait."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._wide_px, self._rest_gap_px = anatomy.open_gap_px, anatomy.rest_gap_px
        self._opens_px = opening_px(anatomy)
        self._gaps_beside_px, self._opens_beside_px = openings_beside_px(anatomy)
        names = ("AU26", "seal", "upper_gap", "lower_gap")
        self._jaw, self._seal, self._rise, self._fall = (anatomy.actions.index(name) for name in names)
        beside = self._opens_beside_px
        shares = (CLOSE_UPPER * beside[self._rise] + (1 - CLOSE_UPPER) * beside[self._fall]) / self._wide_px
        self._press_shares = np.maximum(shares, LEAST_SHARE)

    def part(self, weights: np.ndarray, control: np.ndarray) -> np.ndarray:
        """`(K,)` weights whose gap between the inner lips is what the control's AU25 asks for."""
        wide, opens = self._wide_px, self._opens_px
        wanted = float(control[_AU25]) / facs.MAX_INTENSITY * wide
        gap = self._rest_gap_px + float(weights @ opens)
        asked = min(max(wanted / (SEALED * wide), 0.0), 1.0)
        if gap < 0:  # lips pressed together: they stay so until they are asked to part
            gap *= asked
        missing = wanted - gap
        out = weights.copy()
        if missing <= 0:
            # What the jaw opens is sealed as lips do it over an open jaw; the rest the two lips close between them.
            by_jaw = min(-missing, max(0.0, float(weights[self._jaw] * opens[self._jaw])))
            out[self._seal] = by_jaw / max(-opens[self._seal], 1e-3)
            self._bring_closer(out, -(missing + by_jaw))
            self._bring_closer(out, (1 - asked) * self._gap_beside_middle(out, wanted))
        else:
            by_lips = min(missing, LIPS_ALONE * wide)
            out[self._rise] += by_lips / wide * PART_UPPER
            out[self._fall] += by_lips / wide * (1 - PART_UPPER)
            out[self._jaw] += (missing - by_lips) / opens[self._jaw]
        self._arch(out, wanted - self._rest_gap_px)
        return out

    def _arch(self, weights: np.ndarray, parted_px: float) -> None:
        """Raise both lips as those are that the jaw parts, or lower them where it closes the portrait's own gap."""
        by_jaw = float(weights[self._jaw] * self._opens_px[self._jaw])
        by_jaw = min(max(by_jaw, min(parted_px, 0.0)), max(parted_px, 0.0))
        weights[self._rise] += ARCH * by_jaw / self._wide_px
        weights[self._fall] -= ARCH * by_jaw / self._wide_px

    def _bring_closer(self, weights: np.ndarray, gap_px: float) -> None:
        """By so much; `weights` are changed in place."""
        weights[self._rise] -= gap_px / self._wide_px * CLOSE_UPPER
        weights[self._fall] -= gap_px / self._wide_px * (1 - CLOSE_UPPER)

    def _gap_beside_middle(self, weights: np.ndarray, wanted_px: float) -> float:
        """px that the middle of the lips must be pressed together so that they meet beside it, too.

        Actions that raise the upper lip's sides (AU09, AU10) leave gaps there when the middle is sealed.
        """
        excess = weights @ self._opens_beside_px
        if self._rest_gap_px > wanted_px:
            excess = excess + self._gaps_beside_px * (1 - wanted_px / self._rest_gap_px)
        needed = float((excess / self._press_shares).max())
        return min(max(needed, 0.0), MOST_PRESS * self._wide_px)


def openings_beside_px(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """`(n,)` px between the inner lips at rest beside the middle and at it, and what each action adds `(K, n)`."""
    places = slice(_BESIDE, len(UPPER_INNER_LIP) - _BESIDE)
    upper, lower = list(UPPER_INNER_LIP[places]), list(LOWER_INNER_LIP[places])
    down = _down(anatomy)
    at_rest = (anatomy.points_px[lower, :2] - anatomy.points_px[upper, :2]) @ down
    return at_rest, (anatomy.action_px[:, lower, :2] - anatomy.action_px[:, upper, :2]) @ down


def opening_px(anatomy: Anatomy) -> np.ndarray:
    """`(K,)` px that each column at weight 1 parts the middle of the inner lips."""
    upper = anatomy.action_px[:, UPPER_INNER_LIP[_MIDDLE], :2]
    lower = anatomy.action_px[:, LOWER_INNER_LIP[_MIDDLE], :2]
    return (lower - upper) @ _down(anatomy)


def _down(anatomy: Anatomy) -> np.ndarray:
    """`(2,)` unit vector across the mouth in the image, from the upper lip to the lower."""
    across = (anatomy.points_px[308] - anatomy.points_px[78])[:2]
    return np.array([-across[1], across[0]]) / np.linalg.norm(across)


def resting_lips(anatomy: Anatomy) -> float:
    """AU25 of the portrait itself, 0-5."""
    return float(np.clip(facs.MAX_INTENSITY * anatomy.rest_gap_px / anatomy.open_gap_px, 0, facs.MAX_INTENSITY))
