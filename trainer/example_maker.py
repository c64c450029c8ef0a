"""Training examples of the texture networks, from faces: who is shown to whom, and what should come out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from puppet import facs
from puppet.errors import PuppetError
from puppet.generate.mouth import MouthPictures
from puppet.generate.region import PACKAGED, REGION_OF
from puppet.landmarks import STIFF
from puppet.rig import LandmarkRig
from trainer.clip_frames import FRAME_PX, cut_frames, most_neutral, openness, place_face
from trainer.closed_eyes import CLOSED, WIDE, awake_control, awaken, shut_control, unlike
from trainer.face_sources import FaceReader, TrackedStill
from trainer.faces_folder import FaceFile
from trainer.readings import ActionReader
from trainer.texture_pairs import Sample, Toolbox, follow, identity, reopen, resting, there_and_back
from trainer.texture_shards import Example
from trainer.tracked_lids import lowered

_OPEN_MOUTH = 0.12  # inner lips this far apart, in mouth widths: teeth may show
_EYES_OF_STILLS = 3  # every so many stills give their (unmoved) eyes
_BY_ACTIONS = 3  # every so many pairs of a clip's frames are driven as in live use, the others by their landmarks
_SHOWN_OF_SITTING = 8
_DONORS = 9  # other people's eyes that are tried in a face whose own are shut
_LOOKED_AT = 5  # of them, of which the one in the most similar light and pose lends its eyes
_UNLIKE_LIGHT, _LEAST_DETAIL = 0.4, 0.6
_CLOSED_LIDS = 0.3  # share of sampled actions with closing lids, which stills hardly ever show


class ExampleMaker:
    """Makes examples; holds what is loaded once. Files that can't be used are noted in `left_out`."""

    def __init__(
        self,
        *,
        cache_dir: Path,
        regions: tuple[str, ...] = PACKAGED,
        pictures: MouthPictures | None = None,
    ) -> None:
        """Landmarks of clips are kept in `cache_dir`; `pictures` are the teeth that the motion step draws, None the
        packaged ones."""
        self.tools = Toolbox(LandmarkRig.load(), pictures or MouthPictures.load(), regions)
        self.reader = FaceReader(cache_dir)
        self.left_out: list[tuple[Path, str]] = []
        self.actions = ActionReader()

    def of_pairs(self, files: tuple[FaceFile, ...]) -> Iterator[Example]:
        """Every still of a person shown to every other one of the same person."""
        stills = self._stills(files)
        for person in dict.fromkeys(still.person for still in stills):
            own = [still for still in stills if still.person == person]
            controls = [self.actions.still(still.landmarks_px, still.size) for still in own]
            for a, portrait in enumerate(own if len(own) > 1 else []):
                generator = self.tools.generator(portrait.rgb, portrait.landmarks_px)
                generator.set_baseline(controls[a])
                yield from _examples(person, identity(generator, controls[a], self.tools))
                for b, other in enumerate(own):
                    if a != b and portrait.rgb.shape == other.rgb.shape:
                        made = follow(generator, other.rgb, other.landmarks_px, controls[b], self.tools)
                        yield from _examples(person, made)

    def of_stills(self, files: tuple[FaceFile, ...], rng: np.random.Generator) -> Iterator[Example]:
        """Open mouths, closed and reopened."""
        for n, still in enumerate(self._stills(files)):
            relax = float(rng.uniform(0, 0.7))
            if openness(still.landmarks_px[None])[1][0] < _OPEN_MOUTH:
                continue
            control = self.actions.still(still.landmarks_px, still.size)
            made = reopen(still.rgb, still.landmarks_px, control, relax, self.tools)
            if n % _EYES_OF_STILLS:
                made = {slit: sample for slit, sample in made.items() if slit not in ("R", "L")}
            yield from _examples(still.person, made)

    def of_sleepers(self, files: tuple[FaceFile, ...], rng: np.random.Generator) -> Iterator[Example]:
        """Shut eyes, opened with the eyes of others and shut again, as lids by actions and as by landmarks."""
        stills = self._stills(files)
        if not stills:
            return
        eyes, _ = openness(np.stack([still.landmarks_px for still in stills]))
        donors = [still for still, height in zip(stills, eyes, strict=True) if WIDE[0] < height < WIDE[1]]
        for still, height in zip(stills, eyes, strict=True):
            if height > CLOSED or not donors:
                continue
            read = self.actions.still(still.landmarks_px, still.size)
            for n in range(_DONORS):
                some = [donors[k] for k in rng.integers(len(donors), size=_LOOKED_AT)]
                donor = min(some, key=lambda one: unlike(still, one))
                awake = awaken(still, donor)
                generator = self.tools.generator(awake.rgb, awake.landmarks_px)
                generator.set_baseline(awake_control(read))
                by_actions = n % _BY_ACTIONS > 0
                shut = lowered(still.landmarks_px, awake.landmarks_px, np.ones(2))
                made = follow(generator, still.rgb, shut, shut_control(read), self.tools, by_actions=by_actions)
                made = {slit: sample for slit, sample in made.items() if REGION_OF[slit] == "eye"}
                if made:
                    yield from _examples(still.person, made)

    def of_unpaired(self, files: tuple[FaceFile, ...], rng: np.random.Generator) -> Iterator[Example]:
        """Stills that do what another one shows, and their way back."""
        stills = self._stills(files)
        controls = [self.actions.still(still.landmarks_px, still.size) for still in stills]
        for still, own, n in zip(stills, controls, rng.permutation(len(stills)), strict=True):
            sampled = own + (controls[n] - own) * np.float32(rng.uniform(0.5, 1.0))
            if rng.random() < _CLOSED_LIDS:
                sampled[list(facs.columns_of("AU45"))] = rng.uniform(2, 5)
            made = there_and_back(still.rgb, still.landmarks_px, own, sampled, self.tools)
            for slit, (sample, back) in made.items():
                planes = {name: value[None] for name, value in vars(sample).items()}
                yield Example(REGION_OF[slit], still.person, **planes, back=back)

    def of_clip(
        self,
        file: FaceFile,
        rng: np.random.Generator,
        *,
        portraits: int,
        targets: int,
        part: tuple[float, float] = (0.0, 1.0),
        portrait: TrackedStill | None = None,
    ) -> Iterator[Example]:
        """`targets` frames of a clip shown to `portraits` of its frames, and to a portrait if one is given.

        `part` is the share of the clip, in time, that is used.
        """
        tracked = self.reader.clip(file)
        matrix, numbers, points = place_face(tracked, file.path)
        first, last = (round(share * len(points)) for share in part)
        numbers, points = numbers[first:last], points[first:last]
        own = _portraits(points, portraits, rng)
        chosen = [_targets(points, p, targets // 2, rng) for p in own]
        wanted = np.unique(np.concatenate([own, *chosen, *(t + 1 for t in chosen)]).astype(int))
        found = cut_frames(file.path, matrix, numbers[wanted])
        frames = {n: found[numbers[n]] for n in wanted if numbers[n] in found}
        actions = self.actions.clip(points, (FRAME_PX, FRAME_PX))
        shown = [(frames[p], points[p], t) for p, t in zip(own, chosen, strict=True) if p in frames]
        if portrait is not None:
            shown.append((portrait.rgb, portrait.landmarks_px, np.unique(np.concatenate(chosen))))
        for rgb, landmarks_px, own_targets in shown:
            generator = self.tools.generator(rgb, landmarks_px)
            control = self.actions.still(landmarks_px, (rgb.shape[1], rgb.shape[0]))
            generator.set_baseline(control)
            rest = resting(generator)
            yield from _examples(file.person, identity(generator, control, self.tools))
            for n, t in enumerate(own_targets):
                if t in frames and t + 1 in frames:
                    both = [
                        follow(
                            generator,
                            frames[k],
                            points[k],
                            actions[k],
                            self.tools,
                            rest=rest,
                            by_actions=n % _BY_ACTIONS == 0,
                        )
                        for k in (t, t + 1)
                    ]
                    yield from _examples(file.person, *both)

    def of_sitting(self, files: tuple[FaceFile, ...]) -> Iterator[Example]:
        """Snapshots of one person in changing light: the most neutral and the most smiling shown the most unlike."""
        stills = self._stills(files)
        if len(stills) < 2:
            return
        points = np.stack([still.landmarks_px for still in stills])
        clear = _clear([still.rgb for still in stills], points)
        eyes, mouth = openness(points)
        eyes = eyes / np.median(eyes)
        neutral = int(np.argmin(np.abs(eyes - 1) + 2 * mouth + 9 * ~clear))
        smiling = int(np.argmax(np.where(clear & (eyes > 0.9), mouth, -1)))
        for first in dict.fromkeys((neutral, smiling)):
            unlike = np.abs(eyes - eyes[first]) + 2 * np.abs(mouth - mouth[first]) - 9 * ~clear
            portrait = stills[first]
            generator = self.tools.generator(portrait.rgb, portrait.landmarks_px)
            generator.set_baseline(self.actions.still(portrait.landmarks_px, portrait.size))
            rest = resting(generator)
            for k in np.argsort(-unlike)[:_SHOWN_OF_SITTING]:
                if k != first and clear[k]:
                    other, moved = _onto(stills[k].rgb, points[k], points[first], portrait.size)
                    seen = self.actions.still(moved, portrait.size)
                    made = follow(generator, other, moved, seen, self.tools, rest=rest, is_relit=True)
                    yield from _examples(portrait.person, made)

    def _stills(self, files: tuple[FaceFile, ...]) -> list[TrackedStill]:
        out = []
        for file in files:
            try:
                out.append(self.reader.still(file))
            except PuppetError as exc:
                self.left_out.append((file.path, str(exc)))
        return out


def _examples(person: str, *made: dict[str, Sample]) -> Iterator[Example]:
    """One example a slit, of all frames that show it."""
    for slit in made[0]:
        samples = [frame[slit] for frame in made if slit in frame]
        planes = {name: np.stack([getattr(s, name) for s in samples]) for name in vars(samples[0])}
        yield Example(REGION_OF[slit], person, **planes)


def _clear(rgb: list[np.ndarray], landmarks_px: np.ndarray) -> np.ndarray:
    """`(N,)` bool: neither much darker or brighter nor much more blurred than the person's other snapshots."""
    light, detail = [], []
    for picture, points in zip(rgb, landmarks_px, strict=True):
        low, high = np.maximum(points[:, :2].min(0), 0).astype(int), points[:, :2].max(0).astype(int)
        face = cv2.resize(picture[low[1] : high[1], low[0] : high[0]], (128, 160), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
        light.append(grey.mean())
        detail.append(cv2.Laplacian(grey, -1).std() / grey.mean())
    light, detail = (np.array(v) / np.median(v) for v in (light, detail))
    return (np.abs(np.log(light)) < _UNLIKE_LIGHT) & (detail > _LEAST_DETAIL)


def _onto(
    rgb: np.ndarray, landmarks_px: np.ndarray, wanted_px: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its landmarks, shifted, turned and scaled so that the stiff landmarks fall on others."""
    stiff = list(STIFF)
    matrix, _ = cv2.estimateAffinePartial2D(landmarks_px[stiff, :2], wanted_px[stiff, :2], method=cv2.LMEDS)
    moved = landmarks_px * np.float32(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    moved[:, :2] = landmarks_px[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    drawn = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return drawn, moved.astype(np.float32)


def _portraits(points: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """The most neutral frame, then others with open eyes."""
    eyes, _ = openness(points)
    awake = np.flatnonzero(eyes > 0.85 * np.median(eyes))
    return [most_neutral(points), *(int(i) for i in rng.choice(awake, count - 1))]


def _targets(points: np.ndarray, first: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Frames with a next one: a third with closing eyes, a third with open mouths, the rest any."""
    eyes, mouth = openness(points)
    usable = np.arange(len(points) - 1)
    usable = usable[usable != first]
    share = count // 3
    shut = usable[eyes[usable] < 0.7 * np.median(eyes)]
    wide = usable[mouth[usable] > max(0.08, float(np.percentile(mouth, 70)))]
    picked = [rng.permutation(group)[:share] for group in (shut, wide)]
    rest = rng.permutation(np.setdiff1d(usable, np.concatenate(picked)))[: count - sum(map(len, picked))]
    return np.sort(np.concatenate([*picked, rest]))
