"""Batches for the texture networks, from shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np

from puppet import facs
from puppet.errors import InputError
from puppet.generate.region import ACTION_COUNT, SHAPES
from trainer.split import is_held_out

_NAMES = (*facs.INTENSITY_NAMES, *facs.GAZE_NAMES)
_OTHER_SIDE = np.array(
    [
        _NAMES.index(n[:-1] + {"L": "R", "R": "L"}[n[-1]]) if n.endswith(("_L", "_R")) else i
        for i, n in enumerate(_NAMES)
    ]
)
_MIRROR_SIGN = np.where(np.array(_NAMES) == "gaze_yaw_rad", -1.0, 1.0).astype(np.float32)
_ACTION_NOISE, _ACTION_DROPOUT = 0.06, 0.15
_TURN_RAD, _STRETCH, _SHIFT_PX = 0.07, 0.07, 1.5
_MOST_MISFIT = 22.0
_HOLLOW_SHARE = 0.35
_CAVITY = np.array([36.0, 13.0, 12.0])


@dataclass(frozen=True)
class Batch:
    """`moved` `(N, 5, h, w)`, `rest` `(N, 4, h, w)`, `answer` `(N, 3, h, w)` float32, colours -1 to 1, and `actions`
    `(N, ACTION_COUNT)`. `pairs` `(P, 2)`: places in the batch of neighbouring frames."""

    moved: np.ndarray
    rest: np.ndarray
    answer: np.ndarray
    actions: np.ndarray
    pairs: np.ndarray


class TextureData:
    """All examples of one region, in memory as bytes.

    Raises:
        InputError: a shard can't be read, or holds nothing for this region.
    """

    def __init__(self, shards: list[Path], region: str, *, seed: int = 0) -> None:
        parts: dict[str, list[np.ndarray]] = {}
        for path in shards:
            try:
                with np.load(path) as file:
                    for name in ("moved", "rest", "answer", "actions", "person", "has_next"):
                        if f"{region}.{name}" in file:
                            parts.setdefault(name, []).append(file[f"{region}.{name}"])
            except (OSError, ValueError, BadZipFile) as exc:
                raise InputError(
                    f"{path} can't be read ({exc}): delete it and run `python -m trainer prepare`."
                ) from exc
        if not parts or parts["actions"][0].shape[1] != ACTION_COUNT:
            raise InputError(
                f"no examples of the {region} in {shards[0].parent}: run `python -m trainer prepare` again."
            )
        self.moved, self.rest, self.answer, self.actions, self.person, self.has_next = (
            np.concatenate(parts[n]) for n in ("moved", "rest", "answer", "actions", "person", "has_next")
        )
        fits = self._misfit() < _MOST_MISFIT
        self.left_out = int((~fits).sum())
        self.region, self.shard_count = region, len(shards)
        self.next_step = 1 if region == "mouth" else 2
        unseen = np.array([is_held_out(str(p)) for p in self.person])
        if unseen.all() or not unseen.any():
            unseen[:] = False
            unseen[-1] = True  # a single person: still something to look at
        self.train, self.held_out = np.flatnonzero(~unseen & fits), np.flatnonzero(unseen & fits)
        self.person_count = len(set(self.person))
        self._rng = np.random.default_rng(seed)
        weight = _evened(self._interest()[self.train], self.person[self.train])
        self._chance = weight / weight.sum()
        follows = self.has_next[self.train] & (self.train + self.next_step < len(self.person))
        self._with_next = self.train[follows]
        self._with_next = self._with_next[np.isin(self._with_next + self.next_step, self.train)]

    def reseed(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def batch(self, size: int) -> Batch:
        """Random examples, augmented; one pair of neighbouring frames among them where there are any."""
        rng = self._rng
        chosen = rng.choice(self.train, size, p=self._chance)
        pairs = np.zeros((0, 2), np.int64)
        if len(self._with_next) and size >= 4:
            first = int(rng.choice(self._with_next))
            chosen[:2] = first, first + self.next_step
            pairs = np.array([[0, 1]])
        batch = self.plain(chosen, pairs)
        # Neighbouring frames must be changed alike.
        group = np.arange(size)
        group[pairs[:, 1]] = group[pairs[:, 0]]
        batch = self._placed(batch, group)
        self._recolour(batch, group)
        if self.region == "mouth":
            self._relight(batch, group)
            self._hollow(batch, group)
            batch = _mirrored(batch, (rng.random(size) < 0.5)[group])
        noise = rng.normal(0, _ACTION_NOISE, batch.actions.shape)[group]
        keep = (rng.random((size, 1)) > _ACTION_DROPOUT)[group]
        actions = (np.clip(batch.actions + noise, -1, 1) * keep).astype(np.float32)
        return Batch(batch.moved, batch.rest, batch.answer, actions, batch.pairs)

    def plain(self, chosen: np.ndarray, pairs: np.ndarray | None = None) -> Batch:
        """Examples as they are, cut to what a network sees."""
        rows, columns = SHAPES[self.region].seen
        return Batch(
            _planes(self.moved[chosen, rows, columns]),
            _planes(self.rest[chosen, rows, columns]),
            _planes(self.answer[chosen, rows, columns]),
            self.actions[chosen].astype(np.float32),
            np.zeros((0, 2), np.int64) if pairs is None else pairs,
        )

    def _misfit(self) -> np.ndarray:
        """`(N,)` grey levels by which answer and input differ where nothing opened: hands, mistracking, other light."""
        out = []
        for at in range(0, len(self.moved), 256):
            moved, rest = self.moved[at : at + 256], self.rest[at : at + 256]
            skin = ((moved[..., 3] == 0) & (rest[..., 3] == 0)).astype(np.float32)
            error = np.abs(moved[..., :3].astype(np.float32) - self.answer[at : at + 256]).mean(-1)
            out.append((error * skin).sum((1, 2)) / np.maximum(skin.sum((1, 2)), 1))
        return np.concatenate(out)

    def _interest(self) -> np.ndarray:
        """`(N,)` how often an example is drawn: what opens or closes most is the most instructive."""
        now = self.moved[..., 3].mean((1, 2)) / 255
        before = self.rest[..., 3].mean((1, 2)) / 255
        change = np.abs(now - before)
        shown = np.maximum(now, change) if self.region == "mouth" else change
        return 0.3 + np.minimum(shown / max(float(np.percentile(shown, 90)), 1e-6), 1)

    def _relight(self, batch: Batch, group: np.ndarray) -> None:
        """Other light in mouths drawn from the rig, in the input alone and in place: how bright it draws is a guess."""
        light = self._rng.uniform(0.85, 1.4, len(batch.moved))[group]
        for n in np.flatnonzero(batch.rest[:, 3].max((1, 2)) < 0.1):
            inside = (batch.moved[n, :3] + 1) * light[n].astype(np.float32) - 1
            batch.moved[n, :3] += (np.minimum(inside, 1) - batch.moved[n, :3]) * batch.moved[n, 3]

    def _hollow(self, batch: Batch, group: np.ndarray) -> None:
        """Make the lower part of some openings dark in input and answer, in place: what is hollow stays so.

        Few examples are wide open; without this a network that lightens teeth fills every cavity with milk.
        """
        size = len(batch.moved)
        is_hollow = (self._rng.random(size) < _HOLLOW_SHARE)[group]
        start = np.where(self._rng.random(size) < 0.2, -0.3, self._rng.uniform(0.15, 0.8, size))[group]
        dark = (self._rng.uniform(0.4, 1.6, (size, 1)) * _CAVITY)[group] / 127.5 - 1
        for n in np.flatnonzero(is_hollow):
            mask, depth = batch.moved[n, 3], batch.moved[n, 4]
            share = np.clip((depth / np.maximum(mask, 1e-3) - start[n]) / 0.12, 0, 1) * mask
            for planes in (batch.moved, batch.answer):
                planes[n, :3] += (dark[n, :, None, None].astype(np.float32) - planes[n, :3]) * share

    def _placed(self, batch: Batch, group: np.ndarray) -> Batch:
        """Crops a little turned, shifted and stretched, all planes alike: few people close their eyes for us, and a
        network would know each by the place of their lids."""
        size, (height, width) = len(batch.moved), batch.moved.shape[2:]
        turn = self._rng.normal(0, _TURN_RAD, size)[group]
        zoom = np.exp(self._rng.normal(0, _STRETCH, (size, 2)))[group]
        shift = self._rng.normal(0, _SHIFT_PX, (size, 2))[group]
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        out = [np.empty_like(planes) for planes in (batch.moved, batch.rest, batch.answer)]
        for n in range(size):
            cosine, sine = np.cos(turn[n]), np.sin(turn[n])
            linear = np.array([[cosine, -sine], [sine, cosine]]) * zoom[n]
            matrix = np.concatenate([linear, (middle + shift[n] - linear @ middle)[:, None]], 1)
            for planes, moved in zip((batch.moved, batch.rest, batch.answer), out, strict=True):
                for k, plane in enumerate(planes[n]):
                    border = cv2.BORDER_REPLICATE if k < 3 else cv2.BORDER_CONSTANT
                    moved[n, k] = cv2.warpAffine(plane, matrix, (width, height), borderMode=border)
        return Batch(*out, batch.actions, batch.pairs)

    def _recolour(self, batch: Batch, group: np.ndarray) -> None:
        """Another light and skin, the same for portrait, input and answer; in place."""
        size = len(batch.moved)
        gain = self._rng.uniform(0.8, 1.2, (size, 3, 1, 1)) * self._rng.uniform(0.5, 1.15, (size, 1, 1, 1))
        gamma = np.exp(self._rng.uniform(-0.3, 0.3, (size, 1, 1, 1)))
        # Light from one side.
        slope = self._rng.normal(0, 0.12, (size, 2, 1, 1))
        rows, columns = (np.linspace(-1, 1, n) for n in batch.moved.shape[2:])
        gain = gain * (1 + slope[:, :1] * rows[:, None] + slope[:, 1:] * columns)
        gain, gamma = gain[group].astype(np.float32), gamma[group].astype(np.float32)
        for planes in (batch.moved, batch.rest, batch.answer):
            light = np.clip((planes[:, :3] + 1) / 2, 1e-4, 1) ** gamma * gain
            planes[:, :3] = np.clip(light, 0, 1) * 2 - 1


def _evened(weight: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Weights less unequal among people: a clip has hundreds of examples of one person, a pair of stills two."""
    _, which = np.unique(person, return_inverse=True)
    return weight / np.sqrt(np.bincount(which, weight))[which]


def _planes(images: np.ndarray) -> np.ndarray:
    """uint8 `(N, h, w, C)` to float32 `(N, C, h, w)`: colours -1 to 1, further planes 0 to 1."""
    out = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    out[:, :3] = out[:, :3] * 2 - 1
    return np.ascontiguousarray(out)


def _mirrored(batch: Batch, which: np.ndarray) -> Batch:
    flip = which[:, None, None, None]
    moved, rest, answer = (np.where(flip, p[..., ::-1], p) for p in (batch.moved, batch.rest, batch.answer))
    actions = np.where(which[:, None], batch.actions[:, _OTHER_SIDE] * _MIRROR_SIGN, batch.actions)
    return Batch(moved, rest, answer, actions, batch.pairs)
