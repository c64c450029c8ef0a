"""One variant of the program (engine, textures, size), opened once and run in slices that take turns with others'."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puppet import assembly, facs
from puppet.bench.clip import FPS, LoopingClip
from puppet.config import DriverOptions, EngineOptions, Options, PortraitOptions, Texture
from puppet.gallery import portrait_paths
from puppet.live import Show, short_turns
from puppet.perception import Perception, observe
from puppet.performance import Performer
from puppet.publish import Rendering
from puppet.publish.outputs import Outputs
from puppet.publish.recorder import WAITING_FRAMES, Recorder
from puppet.stats import Stats
from puppet.track import FaceTracker

_PAINTED: dict[Texture, str] = {"off": "", "auto": " +lids", "on": " +lids +mouth"}


@dataclass(frozen=True)
class Variant:
    """What is measured."""

    engine: str
    device: str
    size: tuple[int, int]
    texture: Texture
    is_recording: bool = False

    @property
    def name(self) -> str:
        engine = self.engine if self.device == "cpu" else f"{self.engine} {self.device}"
        return engine + _PAINTED[self.texture] + " +record" * self.is_recording


class Totals:
    """Statistics of all slices of one kind."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._frames, self._seconds = 0, 0.0

    def add(self, part: Stats, *, finishing_s: float = 0.0) -> None:
        """`finishing_s`: what the slice's frames took after the last was handed over (a recording that catches up)."""
        self.stats.absorb(part)
        if part.fps:
            self._frames += part.frames_out - 1
            self._seconds += (part.frames_out - 1) / part.fps + finishing_s

    @property
    def fps(self) -> float:
        """Mean rate inside of the slices."""
        return self._frames / self._seconds if self._seconds else 0.0


class Lane:
    """The parts of `puppet.live.run` for one variant, kept between slices.

    Raises:
        PuppetError, EngineError: the portrait, the clip or the engine can't be opened.
    """

    def __init__(self, variant: Variant, *, target: str | None, clip: Path, folder: Path) -> None:
        """`folder` is for what a variant that records writes."""
        self.variant = variant
        self.in_order, self.live, self.alone = Totals(), Totals(), Stats()
        self._recording = folder / f"{id(self)}.mp4" if variant.is_recording else None
        width, height = variant.size
        self._options = Options(
            portrait=PortraitOptions(target=target, size=f"{width}x{height}", texture=variant.texture),
            driver=DriverOptions(driver=str(clip)),
            engine=EngineOptions(engine=variant.engine, device=variant.device),
        )
        with ExitStack() as stack:
            self._gallery = stack.enter_context(closing(assembly.open_gallery(self._options, portrait_paths(target))))
            self._estimator = stack.enter_context(closing(assembly.open_estimator(self._options, self.in_order.stats)))
            self._clip = stack.enter_context(closing(LoopingClip(clip)))
            self._tracker = stack.enter_context(closing(assembly.open_tracker()))
            self._performer = self._new_performer()
            self._open = stack.pop_all()

    def run_in_order(self, frames: int) -> None:
        """The next frames of the clip as fast as they can be done."""
        self._run(frames, self.in_order, is_live=False)

    def run_live(self, frames: int) -> None:
        """The next frames of the clip at the clip's own rate, as from a camera: the newest wins."""
        self._run(frames, self.live, is_live=True)

    def run_alone(self, controls: np.ndarray) -> None:
        """Generate and composite `(N, SIZE)` controls with nothing beside; then encode, where that is measured."""
        puppet, pictures = self._gallery.current, []
        for control in controls:
            processor_s = time.process_time()
            with self.alone.timed("render"):
                rgb = puppet.render(control)
            self.alone.add("processor", (time.process_time() - processor_s) * 1e3)
            for stage, milliseconds in vars(puppet.timings).items():
                self.alone.add(stage.removesuffix("_ms"), milliseconds)
            if self.variant.is_recording:
                pictures.append(rgb)
        if pictures:
            self._encode(pictures)

    def controls(self, frames: int) -> np.ndarray:
        """What the driver makes the portrait do over the next frames of the clip: `(N, SIZE)`."""
        performer = self._new_performer()
        driver = self._clip.slice(frames, Stats())
        seen = observe(driver.frames(), self._tracker, self._estimator.estimate, Stats())
        return np.array([performer.step(observation, observation.time_s).control for observation in seen])

    def report(self) -> dict:
        """Ready for JSON; milliseconds and frames a second."""
        in_order, live = self.in_order.stats.report(), self.live.stats.report()
        return {
            "name": self.variant.name,
            "engine": self.variant.engine,
            "device": self.variant.device,
            "size": list(self.variant.size),
            "texture": self.variant.texture,
            "recording": self.variant.is_recording,
            "regressor": in_order["engine"],
            "in_order": {
                "fps": round(self.in_order.fps, 2),
                "frames": in_order["frames"],
                "stages_ms": in_order["stages_ms"],
            },
            "live": {
                "fps": round(self.live.fps, 2),
                "camera_fps": self._clip.fps,
                "frames": live["frames"],
                "capture_to_publish_ms": live["latency_ms"],
            },
            "alone": {"stages_ms": self.alone.report()["stages_ms"]},
        }

    def close(self) -> None:
        self._open.close()

    def _run(self, frames: int, totals: Totals, *, is_live: bool) -> None:
        stats = Stats()
        driver = self._clip.slice(frames, stats)
        perception = Perception(
            driver,
            stats,
            open_tracker=lambda: _Lent(self._tracker),
            estimate=self._estimator.estimate,
            is_live=is_live,
        )
        # On air time begins anew with each slice, which a performer that remembers would not understand.
        performer = self._new_performer() if is_live else self._performer
        has_badge = self._options.publish.badge == "on"
        outputs = Outputs(size=self._gallery.current.size, fps=driver.fps, is_live=is_live, has_badge=has_badge)
        with short_turns(), closing(outputs), closing(perception):
            outputs.open(("null",), record=self._recording)
            show = Show(perception, performer, self._gallery, outputs, stats, fps=driver.fps)
            perception.start()
            if is_live:
                show.run_live()
            else:
                show.run_in_order()
            published_s = time.perf_counter()
            outputs.close()
            finishing_s = time.perf_counter() - published_s if self.variant.is_recording else 0.0
        totals.add(stats, finishing_s=finishing_s)

    def _encode(self, pictures: list[np.ndarray]) -> None:
        """Once its queue is full, the recorder takes a picture when it has encoded another."""
        with closing(Recorder(self._recording, size=self.variant.size, fps=FPS, may_drop=False)) as recorder:
            count = max(len(pictures), 2 * WAITING_FRAMES)
            for index, rgb in enumerate(itertools.islice(itertools.cycle(pictures), count)):
                start_s = time.perf_counter()
                recorder.publish(Rendering(rgb, index, index / FPS, facs.rest(), facs.rest(), True))
                if index > WAITING_FRAMES + 1:
                    self.alone.add("encode", (time.perf_counter() - start_s) * 1e3)

    def _new_performer(self) -> Performer:
        return assembly.open_performer(self._options, self._gallery.current.rest_control, self._clip)


class _Lent:
    """A tracker whose borrower must not close it."""

    def __init__(self, tracker: FaceTracker) -> None:
        self.track = tracker.track

    def close(self) -> None:
        """It is needed again."""
