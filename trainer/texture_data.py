"""Batches for the texture networks, from shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np

from puppet import facs
from puppet.errors import InputError
from puppet.generate.region import SHAPES
from trainer.texture_shards import HELD_OUT, Example, read_shard, shards_of

_NAMES = (*facs.INTENSITY_NAMES, *facs.GAZE_NAMES)
_OTHER_SIDE = np.array(
    [
        _NAMES.index(n[:-1] + {"L": "R", "R": "L"}[n[-1]]) if n.endswith(("_L", "_R")) else i
        for i, n in enumerate(_NAMES)
    ]
)
_MIRROR_SIGN = np.where(np.array(_NAMES) == "gaze_yaw_rad", -1.0, 1.0).astype(np.float32)
_TINT = 0.2
"""Of a light's colours, as a logarithm: old paintings are yellower than any photograph."""
_ACTION_NOISE, _ACTION_DROPOUT = 0.06, 0.15
_TURN_RAD, _STRETCH, _SHIFT_PX = 0.07, 0.07, 1.5
_MOST_MISFIT = 22.0
_MOST_OF_SHARD, _MOST_HELD_OUT = 64, 1024
_HOLLOW_SHARE = 0.35
_CAVITY = np.array([36.0, 13.0, 12.0])
_AT_REST = {"mouth": 0.3, "eye": 0.05, "face": 0.3}
"""How often an example in which nothing opens or closes is drawn, against 1 more for one that shows most. Eyes are
painted as lids close, and not at all before (`puppet.generate.painter`)."""
_MOUTH_FROM_ROW = {"mouth": 0, "face": 56}  # of what a network sees; the openings above are eyes


@dataclass(frozen=True)
class LoopBatch:
    """Unpaired pictures: `moved`, `rest` and `actions` as in `Batch`, of sampled actions, and the way back.

    `answer` `(N, 3, h, w)` is the picture itself; `back_moved` `(N, 5, h, w)`, `shown` `(N, h, w, 2)` px, `rest_shown`
    `(N, 2, 3)`, `rest_mask` `(N, 1, h, w)` and `back_actions` `(N, ACTION_COUNT)` as in `WayBack`.
    """

    moved: np.ndarray
    rest: np.ndarray
    answer: np.ndarray
    actions: np.ndarray
    back_moved: np.ndarray
    shown: np.ndarray
    rest_shown: np.ndarray
    rest_mask: np.ndarray
    back_actions: np.ndarray


@dataclass(frozen=True)
class Batch:
    """`moved` `(N, 5, h, w)`, `rest` `(N, 4, h, w)`, `answer` `(N, 3, h, w)` float32, colours -1 to 1, and `actions`
    `(N, ACTION_COUNT)`. `pairs` `(P, 2)`: places in the batch of neighbouring frames. `loop`: unpaired pictures."""

    moved: np.ndarray
    rest: np.ndarray
    answer: np.ndarray
    actions: np.ndarray
    pairs: np.ndarray
    loop: LoopBatch | None = None


class TextureData:
    """Batches of one region from shards, through a buffer of bounded size.

    While everything fits into the buffer it is read once and kept. When it does not, the buffer is a window on an
    endless stream in random order: each batch replaces as many examples as it drew. Of several processes each reads
    shards of its own.

    Raises:
        InputError: a shard can't be read, or there is nothing for this region.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        region: str,
        *,
        seed: int = 0,
        memory_mib: int = 2048,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        self.region, self.shard_count = region, len(shards)
        self.left_out = 0
        self.persons: set[str] = set()
        self.held_out: list[Example] = []
        self._rng = np.random.default_rng([seed, rank])
        self._limit = memory_mib * 2**20
        self._pool: list[Example] = []
        self._loops: list[Example] = []
        self._held = 0
        kept_aside = [shard for shard in shards if shard.parent.name == HELD_OUT]
        for shard in kept_aside:
            for example in islice(read_shard(shard, region), _MOST_OF_SHARD):
                self._take(example)
        own = shards_of([s for s in shards if s not in set(kept_aside)], rank=rank, world_size=world_size)
        self._stream = stream(own, region, seed=[seed, rank], workers=workers)
        self.is_endless = False
        for example in self._stream:
            if example is None:  # all has been seen
                break
            self._take(example)
            if self._held > self._limit:
                self.is_endless = True
                break
        if not self._pool:
            raise InputError(
                f"no examples of the {region} in {shards[0].parent}: run `python -m trainer prepare` again."
            )
        if not self.held_out:  # a single person: still something to look at
            last = self._pool.pop() if len(self._pool) > 1 else self._pool[-1]
            self.held_out = _frames([last])
        self._usual = max(float(np.percentile([_shown(e) for e in self._pool], 90)), 1e-6)
        self._weights = [self._weight(e) for e in self._pool]
        self._weigh()

    @property
    def count(self) -> int:
        """Frames of training examples in the buffer."""
        return sum(len(e.moved) for e in self._pool)

    @property
    def held_bytes(self) -> int:
        """What the buffer takes."""
        return self._held

    def reseed(self, seed: int | Sequence[int]) -> None:
        self._rng = np.random.default_rng(seed)

    def batch(self, size: int, *, unpaired: int = 0) -> Batch:
        """Random examples, augmented; one pair of neighbouring frames among them where there are any."""
        rng = self._rng
        chosen: list[Example] = []
        pairs = np.zeros((0, 2), np.int64)
        if self._with_next and size >= 4:
            both = self._pool[int(rng.choice(self._with_next))]
            chosen, pairs = _frames([both]), np.array([[0, 1]])
        while len(chosen) < size:
            example = self._pool[int(rng.choice(len(self._pool), p=self._chance))]
            chosen.append(_frames([example])[int(rng.integers(len(example.moved)))])
        batch = self.plain(chosen, pairs)
        # Neighbouring frames must be changed alike.
        group = np.arange(size)
        group[pairs[:, 1]] = group[pairs[:, 0]]
        batch = self._placed(batch, group)
        self._recolour((batch.moved, batch.rest, batch.answer), group)
        if self.region in _MOUTH_FROM_ROW:
            self._relight(batch, group)
            self._hollow(batch, group)
            batch = _mirrored(batch, (rng.random(size) < 0.5)[group])
        noise = rng.normal(0, _ACTION_NOISE, batch.actions.shape)[group]
        keep = (rng.random((size, 1)) > _ACTION_DROPOUT)[group]
        actions = (np.clip(batch.actions + noise, -1, 1) * keep).astype(np.float32)
        loop = self._loop_batch(unpaired) if unpaired and self._loops else None
        if self.is_endless:
            self._replace(size)
        return Batch(batch.moved, batch.rest, batch.answer, actions, batch.pairs, loop)

    def plain(self, frames: Sequence[Example], pairs: np.ndarray | None = None) -> Batch:
        """Single frames as they are, cut to what a network sees."""
        rows, columns = SHAPES[self.region].seen
        return Batch(
            _planes(np.concatenate([e.moved[:, rows, columns] for e in frames])),
            _planes(np.concatenate([e.rest[:, rows, columns] for e in frames])),
            _planes(np.concatenate([e.answer[:, rows, columns] for e in frames])),
            np.concatenate([e.actions for e in frames]).astype(np.float32),
            np.zeros((0, 2), np.int64) if pairs is None else pairs,
        )

    def most_telling(self, count: int) -> list[Example]:
        """Held-out frames, spread over how much they show, the most instructive first."""
        order = sorted(self.held_out, key=lambda e: -_interest(e, self._usual))
        return order[:: max(1, len(order) // (2 * count))][:count]

    def _loop_batch(self, size: int) -> LoopBatch:
        chosen = [self._loops[int(i)] for i in self._rng.integers(len(self._loops), size=size)]
        plain, backs = self.plain(chosen), [e.back for e in chosen]
        shape = SHAPES[self.region]
        rows, columns = shape.seen
        margin = np.array(shape.margin, np.float32)
        back_moved = _planes(np.stack([b.moved[rows, columns] for b in backs]))
        self._recolour((plain.moved, plain.rest, plain.answer, back_moved), np.arange(size))
        shown = np.stack([b.shown[rows, columns] for b in backs]).astype(np.float32) - margin
        rest_shown = np.stack([b.rest_shown for b in backs]).astype(np.float32)
        rest_shown[:, :, 2] += rest_shown[:, :, :2] @ margin - margin
        return LoopBatch(
            plain.moved,
            plain.rest,
            plain.answer,
            plain.actions,
            back_moved,
            shown,
            rest_shown,
            np.stack([b.rest_mask[rows, columns] for b in backs])[:, None].astype(np.float32) / 255,
            np.stack([b.actions for b in backs]).astype(np.float32),
        )

    def _replace(self, count: int) -> None:
        """Exchange examples for the stream's next ones, at random places, within the limit."""
        while count > 0:
            example = next(self._stream)
            if example is None:
                continue
            before = len(self._pool)
            self._take(example)
            self._weights += [self._weight(e) for e in self._pool[before:]]
            count -= len(example.moved)
            while self._held > self._limit and len(self._pool) > 1:
                lot = self._loops if self._rng.random() * len(self._pool) < len(self._loops) else self._pool
                place = int(self._rng.integers(len(lot)))
                lot[place], lot[-1] = lot[-1], lot[place]
                self._held -= lot.pop().nbytes
                if lot is self._pool:
                    self._weights[place] = self._weights[-1]
                    self._weights.pop()
        self._weigh()

    def _take(self, example: Example) -> None:
        """Keep an example where it belongs; a misfit nowhere."""
        if example.back is None and _misfit(example) > _MOST_MISFIT:
            self.left_out += len(example.moved)
            return
        self.persons.add(example.person)
        if example.is_held_out:
            if example.back is None and len(self.held_out) < _MOST_HELD_OUT:
                self.held_out += _frames([example])
            return
        (self._pool if example.back is None else self._loops).append(example)
        self._held += example.nbytes

    def _weight(self, example: Example) -> float:
        return _interest(example, self._usual) * len(example.moved)

    def _weigh(self) -> None:
        weights = _evened(np.array(self._weights), np.array([e.person for e in self._pool]))
        self._chance = weights / weights.sum()
        self._with_next = [n for n, e in enumerate(self._pool) if len(e.moved) > 1]

    def _relight(self, batch: Batch, group: np.ndarray) -> None:
        """Other light in mouths drawn from the rig, in the input alone and in place: how bright it draws is a guess."""
        light = self._rng.uniform(0.85, 1.4, len(batch.moved))[group]
        top = _MOUTH_FROM_ROW[self.region]
        for n in np.flatnonzero(batch.rest[:, 3, top:].max((1, 2)) < 0.1):
            drawn = batch.moved[n, :3, top:]
            inside = (drawn + 1) * light[n].astype(np.float32) - 1
            drawn += (np.minimum(inside, 1) - drawn) * batch.moved[n, 3, top:]

    def _hollow(self, batch: Batch, group: np.ndarray) -> None:
        """Make the lower part of some openings dark in input and answer, in place: what is hollow stays so.

        Few examples are wide open; without this a network that lightens teeth fills every cavity with milk.
        """
        size = len(batch.moved)
        is_hollow = (self._rng.random(size) < _HOLLOW_SHARE)[group]
        start = np.where(self._rng.random(size) < 0.2, -0.3, self._rng.uniform(0.15, 0.8, size))[group]
        dark = (self._rng.uniform(0.4, 1.6, (size, 1)) * _CAVITY)[group] / 127.5 - 1
        top = _MOUTH_FROM_ROW[self.region]
        for n in np.flatnonzero(is_hollow):
            mask, depth = batch.moved[n, 3:, top:]
            share = np.clip((depth / np.maximum(mask, 1e-3) - start[n]) / 0.12, 0, 1) * mask
            for planes in (batch.moved, batch.answer):
                drawn = planes[n, :3, top:]
                drawn += (dark[n, :, None, None].astype(np.float32) - drawn) * share

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

    def _recolour(self, pictures: Sequence[np.ndarray], group: np.ndarray) -> None:
        """Another light and skin, the same for portrait, input and answer; in place."""
        size = len(group)
        tint = np.exp(self._rng.normal(0, _TINT, (size, 3, 1, 1)))
        gain = tint / tint.mean(1, keepdims=True) * self._rng.uniform(0.5, 1.15, (size, 1, 1, 1))
        gamma = np.exp(self._rng.uniform(-0.3, 0.3, (size, 1, 1, 1)))
        # Light from one side.
        slope = self._rng.normal(0, 0.12, (size, 2, 1, 1))
        rows, columns = (np.linspace(-1, 1, n) for n in pictures[0].shape[2:])
        gain = gain * (1 + slope[:, :1] * rows[:, None] + slope[:, 1:] * columns)
        gain, gamma = gain[group].astype(np.float32), gamma[group].astype(np.float32)
        for planes in pictures:
            light = np.clip((planes[:, :3] + 1) / 2, 1e-4, 1) ** gamma * gain
            planes[:, :3] = np.clip(light, 0, 1) * 2 - 1


def stream(paths: Sequence[Path], region: str, *, seed: Sequence[int], workers: int = 0) -> Iterator[Example | None]:
    """Examples of shards in random order of shards, endlessly; None each time that all have been seen.

    With `workers` as many other processes read and unpack, each its own shards.
    """
    if workers:
        from trainer.texture_workers import read_by_workers

        yield from read_by_workers(paths, region, list(seed), min(workers, max(len(paths), 1)))
    else:
        yield from endless(paths, region, list(seed))


def endless(paths: Sequence[Path], region: str, seed: list[int]) -> Iterator[Example | None]:
    """The same in this process."""
    for epoch in count():
        for n in np.random.default_rng([*seed, epoch]).permutation(len(paths)):
            yield from read_shard(paths[n], region)
        yield None


def _frames(examples: Iterable[Example]) -> list[Example]:
    """Examples of one frame each, in order."""
    return [
        replace(
            e,
            moved=e.moved[n : n + 1],
            rest=e.rest[n : n + 1],
            answer=e.answer[n : n + 1],
            actions=e.actions[n : n + 1],
        )
        for e in examples
        for n in range(len(e.moved))
    ]


def _misfit(example: Example) -> float:
    """Grey levels by which answer and input differ where nothing opened: hands, mistracking, other light."""
    skin = ((example.moved[..., 3] == 0) & (example.rest[..., 3] == 0)).astype(np.float32)
    error = np.abs(example.moved[..., :3].astype(np.float32) - example.answer).mean(-1)
    return float(((error * skin).sum((1, 2)) / np.maximum(skin.sum((1, 2)), 1)).max())


def _shown(example: Example) -> float:
    """How much opens or closes, as a share of the crop."""
    if example.region == "face":
        masks = (planes[..., 3].astype(np.float32) for planes in (example.moved, example.rest))
        return float(np.abs(np.subtract(*masks)).mean()) / 255
    now, before = (float(planes[..., 3].mean()) / 255 for planes in (example.moved, example.rest))
    return max(now, abs(now - before)) if example.region == "mouth" else abs(now - before)


def _interest(example: Example, usual: float) -> float:
    """How often an example is drawn: what opens or closes most is the most instructive."""
    return _AT_REST[example.region] + min(_shown(example) / usual, 1)


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
