"""The whole data path, top to bottom: capture -> track -> estimate -> perform -> generate -> publish.

Threads: one captures (or decodes), one tracks and estimates, this one performs, generates and publishes; a recording is
encoded in a fourth. Live, a slot of one lies between them and the newest frame wins; `--as-fast-as-possible` puts a
short queue there instead, and every frame goes through in order. Whatever fails on air, the last good rendering or the
portrait at rest is published: pictures of the driver never get past `puppet.perception`.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import numpy as np

from puppet import assembly
from puppet.capture import Observation, open_driver
from puppet.config import Options, parse_size
from puppet.errors import InputError, PuppetError, one_line
from puppet.gallery import Gallery, portrait_paths
from puppet.perception import Perception
from puppet.performance import Performer
from puppet.publish import Command, Rendering
from puppet.publish.outputs import Outputs
from puppet.stats import Stats

log = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
PHASE_SHARE = 0.1  # of a frame's time: how far the rate bends so that a frame leaves the moment it comes
STALE_S = 2.5  # how long a note for the user stays
REVIVE_AFTER_S = 1.0


def run(options: Options) -> int:
    """Open everything, run until the driver ends or the user quits, close everything; the exit code.

    Raises:
        PuppetError: something that is needed can't be opened, or failed for good.
    """
    if options.program.dry_run:
        print("\n".join(one_line(line) for line in assembly.plan(options)))
        return 0
    is_live = not options.driver.as_fast_as_possible
    stats, paths = Stats(), portrait_paths(options.portrait.target)
    sign = assembly.open_signer(options)
    with ExitStack() as stack:
        opener = ThreadPoolExecutor(4, thread_name_prefix="open")
        stack.callback(opener.shutdown, cancel_futures=True)
        driver_opening = opener.submit(
            open_driver,
            options.driver.driver,
            camera_size=parse_size(options.driver.camera_size),
            fps=options.publish.fps,
        )
        if assembly.is_file(options):  # at once there or not: nothing else needs to begin
            driver_opening.result()
        estimator_opening = opener.submit(assembly.open_estimator, options, stats)
        tracker_opening = opener.submit(assembly.open_tracker)
        gallery_opening = opener.submit(assembly.open_gallery, options, paths)
        driver = stack.enter_context(closing(driver_opening.result()))
        gallery = stack.enter_context(closing(gallery_opening.result()))
        estimator = stack.enter_context(closing(estimator_opening.result()))
        first_trackers = [tracker_opening.result()]
        perception = Perception(
            driver,
            stats,
            open_tracker=lambda: first_trackers.pop() if first_trackers else assembly.open_tracker(),
            estimate=estimator.estimate,
            is_live=is_live,
            fps=options.publish.fps,
        )
        fps = options.publish.fps or driver.fps or DEFAULT_FPS
        outputs = Outputs(
            size=gallery.current.size,
            fps=fps,
            is_live=is_live,
            has_badge=options.publish.badge == "on",
            sign=sign,
        )
        stack.enter_context(closing(outputs))
        outputs.open(assembly.output_names(options), record=options.publish.record, au_log=options.publish.au_log)
        performer = assembly.open_performer(options, gallery.current.rest_control, driver)
        stack.enter_context(closing(perception))  # closed first: its threads may be waiting for us
        stack.callback(assembly.save_neutral, performer, driver)
        _announce(gallery, driver, outputs, fps)
        show = Show(perception, performer, gallery, outputs, stats, fps=fps)
        with _stopping_on_signals(show):
            perception.start()
            if is_live:
                gallery.preload()
                show.run_live()
            else:
                show.run_in_order()
    if options.publish.stats is not None:
        stats.write(options.publish.stats)
    return show.exit_code()


class Show:
    """Performs, generates and publishes, one frame at a time, in the thread that calls it."""

    def __init__(
        self,
        perception: Perception,
        performer: Performer,
        gallery: Gallery,
        outputs: Outputs,
        stats: Stats,
        *,
        fps: float,
    ) -> None:
        self._perception, self._performer, self._gallery = perception, performer, gallery
        self._outputs, self._stats, self._fps = outputs, stats, fps
        self._rgb: np.ndarray = gallery.current.still
        self._rendered: np.ndarray | None = None  # the control that `_rgb` shows, None for the still portrait
        self._head = performer.retargeter.head
        self._is_hidden = False
        self._note, self._note_until_s = "", 0.0
        self._reported: set[str] = set()
        self._failed_s: float | None = None
        self.should_stop = False

    def run_in_order(self) -> None:
        """Publish every observation at its own time, as fast as it can be done.

        Raises:
            PuppetError: the first thing that fails; what was written before is kept.
        """
        while (observation := self._perception.take()) is not None and not self.should_stop:
            self._frame(observation, observation.time_s)

    def run_live(self) -> None:
        """Publish at a constant rate until the driver ends or the user quits.

        Raises:
            PuppetError: a driver that is a file failed, or no sink is left.
        """
        period_s = 1.0 / self._fps
        origin_s = due_s = time.perf_counter()
        while not self.should_stop:
            observation = None
            try:
                observation = self._newest(due_s, period_s)
                now_s = time.perf_counter()
                self._frame(observation, now_s - origin_s)
            except Exception as error:  # the live loop's edge: the show goes on with the last good picture
                if not self._outputs.names or (self._perception.ends and self._perception.is_finished):
                    raise
                now_s = time.perf_counter()
                self._survive(error, now_s - origin_s)
            if observation is not None and abs(now_s - due_s) <= 2 * PHASE_SHARE * period_s:
                due_s = now_s  # in step with the driver: a frame waits for no clock
            due_s = max(due_s + period_s, time.perf_counter() - period_s)
            if self._perception.is_finished and self._perception.ends:
                return

    def exit_code(self) -> int:
        """0; 1 where a file could not be finished or no frame of a clip had a face. Says so."""
        failures = list(self._outputs.failures)
        seen = self._stats.frames_in - self._stats.without_face
        if self._perception.ends and self._stats.frames_in and seen <= 0:
            error = InputError(
                f"no face was found in the {self._stats.frames_in} frames of {self._perception.name}, the portrait "
                "stayed at rest. Give a clip in which one face is seen from the front, at least a fifth as high as it."
            )
            log.error("%s", error)
            failures.append(error)
        return 1 if failures else 0

    def _newest(self, due_s: float, period_s: float) -> Observation | None:
        """What was seen last when the next frame is due, or a moment sooner or later if it comes then."""
        early_s = due_s - PHASE_SHARE * period_s - time.perf_counter()
        if early_s > 0:
            time.sleep(early_s)
        if self._perception.is_finished and not self._perception.ends:
            self._revive()
        return self._perception.take(max(0.0, due_s + PHASE_SHARE * period_s - time.perf_counter()))

    def _frame(self, observation: Observation | None, time_s: float) -> None:
        """One frame through the rest of the path: perform -> generate -> publish."""
        if self._gallery.switched():
            self._performer.set_rest(self._gallery.current.rest_control)
            self._rendered = None
            self._say(self._gallery.current.provenance.announce())
        with self._stats.timed("perform"):
            performance = self._performer.step(observation, time_s)
        if observation is not None and observation.control is None:
            self._stats.without_face += 1
        self._generate(performance.control)
        self._publish(performance, observation, time_s)

    def _generate(self, control: np.ndarray) -> None:
        """Render, where something moved since the last frame."""
        puppet = self._gallery.current
        if self._is_hidden:
            self._rgb, self._rendered = puppet.still, None
        elif self._rendered is None or not np.array_equal(control, self._rendered):
            with self._stats.timed("render"):
                self._rgb = puppet.render(control)
            self._rendered = control
            for stage, milliseconds in vars(puppet.timings).items():
                self._stats.add(stage.removesuffix("_ms"), milliseconds)

    def _publish(self, performance, observation: Observation | None, time_s: float) -> None:
        now_s = time.perf_counter()
        latency_ms = None if observation is None else (now_s - observation.captured_s) * 1e3
        rendering = Rendering(
            self._rgb,
            self._stats.frames_out,
            time_s,
            performance.performance,
            performance.control,
            performance.has_face,
            performance.confidence,
            latency_ms,
            self._stats.recent_fps(),
            self._note if now_s < self._note_until_s else "",
            self._gallery.current.provenance,
        )
        with self._stats.timed("publish"):
            self._outputs.publish(rendering)
        end_s = time.perf_counter()
        self._stats.published(end_s, None if observation is None else (end_s - observation.captured_s) * 1e3)
        for command in self._outputs.commands():
            self._obey(command)

    def _survive(self, error: Exception, time_s: float) -> None:
        """Log an error once and publish the last good picture."""
        self._stats.errors += 1
        key = f"{type(error).__name__}: {error}"
        if key not in self._reported:
            self._reported.add(key)
            log.error("%s; the show goes on with the last picture.", key, exc_info=error)
        self._publish(self._performer.last, None, time_s)

    def _revive(self) -> None:
        """Start what watches the driver again, a second after it failed."""
        now_s = time.perf_counter()
        if self._failed_s is None:
            self._failed_s = now_s
        elif now_s - self._failed_s > REVIVE_AFTER_S:
            self._failed_s = None
            self._perception.start()

    def _obey(self, command: Command) -> None:
        """What the user asked for by a key."""
        retargeter, calibrator = self._performer.retargeter, self._performer.calibrator
        if command is Command.QUIT:
            self.should_stop = True
        elif command is Command.MIRROR:
            retargeter.mirror = not retargeter.mirror
            self._say("mirrored" if retargeter.mirror else "not mirrored")
        elif command is Command.HEAD:
            retargeter.head = 0.0 if retargeter.head else self._head or 1.0
            self._say("head follows" if retargeter.head else "head stays")
        elif command in (Command.NEXT, Command.PREVIOUS):
            self._gallery.ask(1 if command is Command.NEXT else -1)
        elif command is Command.HIDE:
            self._is_hidden = not self._is_hidden
            self._say("hidden: the still portrait is shown" if self._is_hidden else "live")
        elif command is Command.RECORD:
            self._toggle_recording()
        elif command is Command.CALIBRATE:
            is_set = calibrator is not None and calibrator.set_neutral()
            self._say("this face is neutral now" if is_set else "no face to take as neutral")

    def _toggle_recording(self) -> None:
        if self._outputs.is_recording:
            self._outputs.stop_recording()
            self._say("recording finished")
        else:
            try:
                self._say(f"recording to {self._outputs.start_recording()}")
            except PuppetError as error:
                self._say(str(error))

    def _say(self, note: str) -> None:
        self._note, self._note_until_s = note, time.perf_counter() + STALE_S
        log.info("%s", note)


def _announce(gallery: Gallery, driver, outputs: Outputs, fps: float) -> None:
    width, height = gallery.current.size
    log.info("%s drives %s: %dx%d at %.4g fps to %s.", driver.name, gallery.path.name, width, height, fps,
             ", ".join(outputs.names))  # fmt: skip
    if gallery.current.provenance.consent is not None:
        log.info("%s", gallery.current.provenance.announce())


@contextmanager
def _stopping_on_signals(show: Show) -> Iterator[None]:
    """Ctrl-C and a polite kill end the show after the current frame, so that files are finished."""

    def stop(number: int, frame) -> None:
        if show.should_stop:
            raise KeyboardInterrupt  # the second time at once
        show.should_stop = True

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
