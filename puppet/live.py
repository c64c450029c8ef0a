"""The whole data path, top to bottom: capture -> track -> estimate -> perform -> generate -> publish.

Threads: one captures (or decodes), one tracks and estimates, one performs and generates, one publishes by a clock of
its own, the main one shows windows and takes keys; a recording is encoded in one more. Live, a slot of one lies between
them and the newest frame wins; `--as-fast-as-possible` puts a short queue there instead, the main thread does what
comes after, and every frame goes through in order. Whatever fails on air, the last good rendering or the portrait at
rest is published: pictures of the driver never get past `puppet.perception`, but by their own leave
(`puppet.own_view`).
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from queue import SimpleQueue

import numpy as np

from puppet import assembly
from puppet.assembly import Openers
from puppet.capture import Observation
from puppet.config import Options, parse_size
from puppet.errors import InputError, PuppetError, one_line
from puppet.gallery import Gallery, portrait_paths
from puppet.memory import keep_together
from puppet.own_view import STALE_S, Lease, fitted
from puppet.perception import Perception
from puppet.performance import Performance, Performer
from puppet.publish import Command, Rendering
from puppet.publish.on_air import OnAir
from puppet.publish.outputs import Outputs
from puppet.stats import Stats

log = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
LEAST_SHARE = 0.9  # of a frame's time: what is seen sooner after the last is left for the next frame
NOTE_S = 2.5  # how long a note for the user stays
REVIVE_AFTER_S = 1.0
KEYS_EVERY_S = 0.01  # of keys pressed between two readings only the last is known
COMMANDS_EVERY_S = 0.1  # where there is no keyboard to read
CALIBRATE_AFTER_S = 0.7  # half a second of new estimates, and the way to them
STOP_WITHIN_S = 5.0
TURN_S = 1e-4
"""After so long a thread that computes in Python lets another go on. By Python's own 5 ms the thread that renders,
which gives way at each of its hundreds of short calls, waits for the tracker's: at 0.1 ms it makes 1.08 times the
frames."""
MOST_REPORTED = 100  # different errors, of a show that may last for days


def run(options: Options, openers: Openers | None = None) -> int:
    """Open everything, run until the driver ends or the user quits, close everything; the exit code.

    `openers` puts something else in place of a part, as the soak run does with the camera.

    Raises:
        PuppetError: something that is needed can't be opened, or failed for good.
    """
    if options.program.dry_run:
        print("\n".join(one_line(line) for line in assembly.plan(options)))
        return 0
    keep_together()
    openers = openers or Openers()
    is_live = not options.driver.as_fast_as_possible
    stats, paths = Stats(), portrait_paths(options.portrait.target)
    sign = assembly.open_signer(options)
    with ExitStack() as stack:
        opener = ThreadPoolExecutor(4, thread_name_prefix="open")
        stack.callback(opener.shutdown, cancel_futures=True)
        driver_opening = opener.submit(
            openers.driver,
            options.driver.driver,
            camera_size=parse_size(options.driver.camera_size),
            fps=options.publish.fps,
        )
        if assembly.is_file(options):  # at once there or not: nothing else needs to begin
            driver_opening.result()
        estimator_opening = opener.submit(openers.estimator, options, stats)
        tracker_opening = opener.submit(openers.tracker)
        gallery_opening = opener.submit(openers.gallery, options, paths)
        driver = stack.enter_context(closing(driver_opening.result()))
        gallery = stack.enter_context(closing(gallery_opening.result()))
        stats.generator = gallery.current.renders_on
        estimator = stack.enter_context(closing(estimator_opening.result()))
        first_trackers = [tracker_opening.result()]
        perception = Perception(
            driver,
            stats,
            open_tracker=lambda: first_trackers.pop() if first_trackers else openers.tracker(),
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
            opener=openers.sink,
        )
        stack.enter_context(closing(outputs))
        outputs.open(assembly.output_names(options), record=options.publish.record, au_log=options.publish.au_log)
        performer = assembly.open_performer(options, gallery.current.rest_control, driver)
        stack.enter_context(closing(perception))  # closed first: its threads may be waiting for us
        stack.callback(assembly.save_neutral, performer, driver)
        _announce(gallery, driver, outputs, fps)
        show = Show(perception, performer, gallery, outputs, stats, fps=fps, set_resting_face=estimator.set_neutral)
        with _stopping_on_signals(show):
            perception.start()
            stack.enter_context(short_turns())
            if is_live:
                gallery.preload()
                show.run_live()
            else:
                show.run_in_order()
    if options.publish.stats is not None:
        stats.write(options.publish.stats)
    return show.exit_code()


class Show:
    """Performs, generates and publishes.

    `run_in_order` does all of it in the thread that calls it. `run_live` shows windows and takes keys there, renders
    in a second thread and publishes in a third one (`puppet.publish.on_air`).
    """

    def __init__(
        self,
        perception: Perception,
        performer: Performer,
        gallery: Gallery,
        outputs: Outputs,
        stats: Stats,
        *,
        fps: float,
        set_resting_face: Callable[[], None] = lambda: None,
    ) -> None:
        """`set_resting_face` tells the AU estimator that the driver is at rest now."""
        self._perception, self._performer, self._gallery = perception, performer, gallery
        self._outputs, self._stats, self._fps = outputs, stats, fps
        self._set_resting_face = set_resting_face
        self._rgb: np.ndarray = gallery.current.still
        self._rendered: np.ndarray | None = None  # the control that `_rgb` shows, None for the still portrait
        self._portrayed = self._rendering(performer.last, None, 0.0)  # the newest rendering of the portrait
        self._head = performer.retargeter.head
        self._is_hidden = False
        self._calibrate_s: float | None = None  # when the neutral is taken
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._note, self._note_until_s = "", 0.0
        self._reported: set[str] = set()
        self._failed_s: float | None = None
        self._fatal: BaseException | None = None
        self._shared: Lease | None = None
        self._origin_s = 0.0
        self.should_stop = False

    def run_in_order(self) -> None:
        """Publish every observation at its own time, as fast as it can be done.

        Raises:
            PuppetError: the first thing that fails; what was written before is kept.
        """
        while (observation := self._perception.take()) is not None and not self.should_stop:
            rendering = self._completed(self._frame(observation, observation.time_s), observation.time_s)
            with self._stats.timed("publish"):
                self._outputs.publish(rendering)
                self._outputs.show(rendering)
            self._count(rendering)
            for command in self._outputs.commands():
                self._obey(command)

    def run_live(self) -> None:
        """Publish at a constant rate until the driver ends or the user quits.

        Raises:
            PuppetError: a driver that is a file failed, or no sink is left.
        """
        self._origin_s = time.perf_counter()
        self._air = OnAir(self._portrayed, self._send, fps=self._fps)
        renderer = threading.Thread(target=self._render_live, name="render", daemon=True)
        renderer.start()
        try:
            self._attend_windows()
        finally:
            self.should_stop = True
            renderer.join(STOP_WITHIN_S)
            self._air.close()
        if self._fatal is not None:
            raise self._fatal

    def _attend_windows(self) -> None:
        """Show in windows what goes out, and pass on what the user asks for."""
        wait_s = KEYS_EVERY_S if self._outputs.has_windows else COMMANDS_EVERY_S
        shown = None
        while not self.should_stop:
            newer = self._air.wait_for_other(shown, wait_s)
            with self._surviving():
                if newer is not None:
                    shown = newer
                    self._outputs.show(newer)
                self._grant(self._outputs.lease)
                for command in self._outputs.commands():
                    self._commands.put(command)
                    self.should_stop = self.should_stop or command is Command.QUIT

    def _render_live(self) -> None:
        """Render what was seen last, and idle motion where nothing is seen, until the show stops."""
        period_s = 1.0 / self._fps
        begun_s = driven_s = -np.inf
        while not self.should_stop:
            with self._surviving():
                while not self._commands.empty():
                    self._obey(self._commands.get())
                if self._perception.is_finished and not self._perception.ends:
                    self._revive()
                # A driver that is faster than the show is not followed frame by frame.
                _sleep_until(driven_s + LEAST_SHARE * period_s)
                due_s, begun_s = max(begun_s + period_s, time.perf_counter()), time.perf_counter()
                observation = self._perception.take(due_s - begun_s)
                if observation is None:
                    _sleep_until(due_s)  # also where nothing is left that could be waited for
                begun_s = time.perf_counter()
                driven_s = driven_s if observation is None else begun_s
                rendering = self._frame(observation, begun_s - self._origin_s)
                # Where nothing moved the same picture goes out again by itself.
                if observation is not None or rendering.rgb is not self._portrayed.rgb:
                    self._offer(rendering)
            if self._perception.is_finished and self._perception.ends:
                self.should_stop = True

    def _offer(self, rendering: Rendering) -> None:
        if rendering.own_camera is None:
            self._portrayed = rendering
        self._air.offer(rendering)

    def _send(self, rendering: Rendering, is_new: bool) -> Rendering:
        """Publish in the thread that is on air; what really went out."""
        with self._surviving():
            rendering = self._cleared(rendering)
            if not is_new:
                rendering = replace(rendering, captured_s=None)
            rendering = self._completed(rendering, time.perf_counter() - self._origin_s)
            with self._stats.timed("publish"):
                self._outputs.publish(rendering)
            self._count(rendering)
        return rendering

    def _cleared(self, rendering: Rendering) -> Rendering:
        """The same, or the portrait in its place where nothing allows to show the driver's own camera any more."""
        if rendering.own_camera is None:
            return rendering
        if rendering.own_camera.is_alive and time.perf_counter() - rendering.captured_s <= STALE_S:
            return rendering
        self._perception.own_view.revoke()
        return self._portrayed

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """The live loop's edge, of all its threads: the show goes on with the last good picture of the portrait."""
        try:
            yield
        except Exception as error:
            self._perception.own_view.revoke()
            if not self._outputs.names or (self._perception.ends and self._perception.is_finished):
                self._fatal, self.should_stop = error, True
                return
            self._stats.errors += 1
            key = f"{type(error).__name__}: {error}"
            if key not in self._reported and len(self._reported) < MOST_REPORTED:
                self._reported.add(key)
                log.error("%s; the show goes on with the last picture.", key, exc_info=error)

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

    def _frame(self, observation: Observation | None, time_s: float) -> Rendering:
        """One frame through the path: perform -> generate."""
        if self._gallery.switched():
            self._performer.set_rest(self._gallery.current.rest_control)
            self._rendered = None
            self._say(self._gallery.current.provenance.announce())
        with self._stats.timed("perform"):
            performance = self._performer.step(observation, time_s)
        if observation is not None and observation.control is None:
            self._stats.without_face += 1
        self._calibrate_when_due()
        own = self._own_camera(performance, time_s)
        if own is not None:
            return own
        self._generate(performance.control)
        return self._rendering(performance, observation, time_s)

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

    def _own_camera(self, performance: Performance, time_s: float) -> Rendering | None:
        """The driver's own picture while a lease for it lives, None otherwise: the portrait is shown."""
        lease, frame = self._perception.own_view.lease, self._perception.own_view.newest()
        if lease is None or frame is None:
            return None
        rgb = fitted(frame.rgb, self._gallery.current.size)
        rendering = self._rendering(performance, None, time_s)
        return replace(rendering, rgb=rgb, captured_s=frame.captured_s, own_camera=lease, portrait=None)

    def _grant(self, lease: Lease | None) -> None:
        """Let the driver's own camera be shown, or note that it is over."""
        if lease is self._shared:
            return
        if lease is not None and lease.is_alive:
            self._perception.own_view.grant(lease)
            log.warning("YOUR OWN CAMERA IS SHOWN%s.", " and recorded" if self._outputs.is_recording else "")
        elif self._shared is not None:
            self._perception.own_view.revoke()
            self._say("the portrait is shown again")
        self._shared = lease

    def _rendering(self, performance: Performance, observation: Observation | None, time_s: float) -> Rendering:
        return Rendering(
            self._rgb,
            self._stats.frames_out,
            time_s,
            performance.performance,
            performance.control,
            performance.has_face,
            performance.confidence,
            portrait=self._gallery.current.provenance,
            captured_s=None if observation is None else observation.captured_s,
        )

    def _completed(self, rendering: Rendering, time_s: float) -> Rendering:
        """With what is known only as it goes out."""
        now_s = time.perf_counter()
        return replace(
            rendering,
            index=self._stats.frames_out,
            time_s=time_s,
            latency_ms=None if rendering.captured_s is None else (now_s - rendering.captured_s) * 1e3,
            fps=self._stats.recent_fps(),
            note=self._note if now_s < self._note_until_s else "",
            microphone_delay_ms=self._stats.microphone_delay_ms,
        )

    def _count(self, rendering: Rendering) -> None:
        end_s = time.perf_counter()
        was_known = self._stats.microphone_delay_ms is not None
        captured_s = rendering.captured_s
        self._stats.published(end_s, None if captured_s is None else (end_s - captured_s) * 1e3)
        delay_ms = self._stats.microphone_delay_ms
        if delay_ms is not None and not was_known and self._origin_s:
            log.info("pictures take %.0f ms from the camera to the call: delay your microphone by as much.", delay_ms)

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
        retargeter = self._performer.retargeter
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
            self._perception.own_view.revoke()
            self._is_hidden = not self._is_hidden
            self._say("hidden: the still portrait is shown" if self._is_hidden else "live")
        elif command is Command.RECORD:
            self._toggle_recording()
        elif command is Command.CALIBRATE:
            self._set_resting_face()
            self._calibrate_s = time.perf_counter() + CALIBRATE_AFTER_S
            self._say("hold that face")

    def _calibrate_when_due(self) -> None:
        """Take the neutral once all that it is taken from was estimated against the new resting face."""
        if self._calibrate_s is None or time.perf_counter() < self._calibrate_s:
            return
        self._calibrate_s = None
        calibrator = self._performer.calibrator
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
        self._note, self._note_until_s = note, time.perf_counter() + NOTE_S
        log.info("%s", note)


def _sleep_until(time_s: float) -> None:
    early_s = time_s - time.perf_counter()
    if early_s > 0:
        time.sleep(early_s)


def _announce(gallery: Gallery, driver, outputs: Outputs, fps: float) -> None:
    width, height = gallery.current.size
    log.info("%s drives %s: %dx%d at %.4g fps to %s.", driver.name, gallery.path.name, width, height, fps,
             ", ".join(outputs.names))  # fmt: skip
    if gallery.current.provenance.consent is not None:
        log.info("%s", gallery.current.provenance.announce())


@contextmanager
def short_turns() -> Iterator[None]:
    """Let Python's threads take turns of `TURN_S`."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


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
