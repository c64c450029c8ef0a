"""Perceive: capture in one thread, track and estimate in another, observations out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from puppet.capture import Frame, FrameDriver, Observation, TrackDriver
from puppet.capture.pace import paced, resampled
from puppet.feed import Feed
from puppet.memory import give_back
from puppet.own_view import OwnView
from puppet.stats import Stats

if TYPE_CHECKING:  # both import what takes a second: they are loaded where they are made
    from puppet.estimate import Estimate
    from puppet.track import Face, FaceTracker

FRAMES_AHEAD = 4  # of each thread, when every frame counts


def observe(
    frames: Iterable[Frame],
    tracker: FaceTracker,
    estimate: Callable[[Face], Estimate],
    stats: Stats,
    own_view: OwnView | None = None,
) -> Iterator[Observation]:
    """Track, then estimate, each frame. Pictures of the driver end here, but for what a lease lets `own_view` hold."""
    for frame in frames:
        if own_view is not None:
            own_view.offer(frame)
        with stats.timed("track"):
            face = tracker.track(frame.rgb)
        control, confidence = None, 0.0
        if face is not None:
            with stats.timed("estimate"):
                estimated = estimate(face)
            control, confidence = estimated.control, estimated.confidence
        yield Observation(control, confidence, frame.index, frame.time_s, frame.captured_s)


class Perception:
    """Observations of a driver, made ahead of whoever takes them.

    `is_live`: the newest wins. Otherwise all come in order, resampled to `fps` unless that is None.
    `own_view` holds the driver's newest picture while a lease lives, live only; otherwise no picture leaves.
    Drivers that give frames need `open_tracker`, called in the thread that tracks and again after a failure, and
    `estimate`, called in that thread only.
    """

    def __init__(
        self,
        driver: FrameDriver | TrackDriver,
        stats: Stats,
        *,
        open_tracker: Callable[[], FaceTracker] | None = None,
        estimate: Callable[[Face], Estimate] | None = None,
        is_live: bool,
        fps: float | None = None,
    ) -> None:
        self._driver, self._stats = driver, stats
        self._open_tracker, self._estimate = open_tracker, estimate
        self._is_live, self._fps = is_live, fps
        self.own_view = OwnView()
        self._capture: Feed[Frame] | None = None
        self._feed: Feed[Observation] | None = None

    @property
    def name(self) -> str:
        return self._driver.name

    @property
    def ends(self) -> bool:
        """Whether the driver ends by itself, as files do and cameras don't."""
        return not getattr(self._driver, "is_live", False)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will come: the driver ended, or failed (`take` says how, once)."""
        return self._feed is not None and self._feed.is_finished

    def start(self) -> None:
        """Begin; of threads that are at work already, only those that ended are started anew."""
        ahead = None if self._is_live else FRAMES_AHEAD
        if hasattr(self._driver, "frames"):
            if self._capture is None or self._capture.is_finished:
                self._drop(self._capture)
                self._capture = Feed(self._timed(self._driver.frames()), ahead=ahead, name="capture")
            observations = self._observed(self._capture)
        else:
            observations = self._timed(self._driver.observations())
        if not self._is_live and self._fps is not None:
            observations = resampled(observations, self._fps)
        self._drop(self._feed)
        self._feed = Feed(observations, ahead=ahead, name="track")

    def take(self, timeout_s: float | None = None) -> Observation | None:
        """The next observation, or None if none came in time or the driver ended.

        Raises:
            PuppetError: the driver or the senses failed; or whatever else they raised.
        """
        return self._feed.take(timeout_s)

    def close(self) -> None:
        self.own_view.revoke()
        self._driver.close()
        for feed in (self._feed, self._capture):  # the last first, so that none waits for the other
            self._drop(feed)

    def _observed(self, frames: Iterable[Frame]) -> Iterator[Observation]:
        try:
            with closing(self._open_tracker()) as tracker:
                own_view = self.own_view if self._is_live else None
                yield from observe(frames, tracker, self._estimate, self._stats, own_view)
        finally:
            give_back()

    def _timed(self, items: Iterable) -> Iterator:
        """Items counted and, if live, paced where their driver does not do it itself."""
        for item in paced(items) if self._is_live and self.ends else items:
            self._stats.frames_in += 1
            yield item

    def _drop(self, feed: Feed | None) -> None:
        if feed is not None:
            feed.close()
            self._stats.dropped += feed.dropped
            feed.dropped = 0
