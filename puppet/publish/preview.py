"""A window that shows the rendering and takes keys (OpenCV HighGUI; from the main thread, as macOS wants it)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

import cv2

from puppet.errors import DeviceError
from puppet.own_view import Lease
from puppet.publish import Command, Rendering
from puppet.publish.gesture import CONFIRM_KEY, HOLD_KEY, ShareGesture, State
from puppet.publish.overlay import OWN_CAMERA_SHOWN, Overlay

TITLE = "Puppet"
LONGEST_SIDE_PX = 1000  # of the window when it opens; it can be resized

COMMAND_KEYS = {
    "c": Command.CALIBRATE,
    "m": Command.MIRROR,
    "n": Command.NEXT,
    "p": Command.PREVIOUS,
    "h": Command.HEAD,
    "r": Command.RECORD,
    "s": Command.HIDE,
    " ": Command.HIDE,
    "q": Command.QUIT,
    "\x1b": Command.QUIT,
}
SHOWN_KEYS = (
    *((key, COMMAND_KEYS[key].value) for key in "cmnphr"),
    ("s / space", Command.HIDE.value),
    ("o", "AU bars, rate and latency"),
    (f"hold {HOLD_KEY}, {CONFIRM_KEY}", f"show your own camera; {HOLD_KEY} ends it"),
    ("?", "these keys"),
    ("q / Esc", Command.QUIT.value),
)


MOST_KEYS_AT_ONCE = 16


class Preview:
    """The preview window. Overlay and help are its own business; other keys become commands.

    `lease` is what the gesture for showing one's own camera has granted, or None; it ends with the window.

    Raises:
        DeviceError: there is no display, or this OpenCV was built without windows.
    """

    name = "preview"
    is_window = True

    def __init__(self, *, size: tuple[int, int], fps: float, device: str | None = None) -> None:
        why = missing_display()
        if why:
            raise DeviceError(f"no preview: {why}")
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise DeviceError(
                "no preview: this OpenCV was built without windows. Uninstall opencv-python-headless; "
                "MediaPipe brings an OpenCV that has them."
            ) from error
        scale = min(1.0, LONGEST_SIDE_PX / max(size))
        cv2.resizeWindow(TITLE, round(size[0] * scale), round(size[1] * scale))
        self._overlay = Overlay()
        self._commands: list[Command] = []
        self.has_overlay, self.has_help = True, False
        self._is_shown = False
        self._gesture = ShareGesture()

    @property
    def lease(self) -> Lease | None:
        return self._gesture.lease

    def publish(self, rendering: Rendering) -> None:
        """Show one frame."""
        rgb = rendering.rgb
        if self.has_overlay and not self.has_help:
            rgb = self._overlay.status(rgb, rendering)
        if rendering.note:
            rgb = self._overlay.note(rgb, rendering.note)
        if self.has_help:
            rgb = self._overlay.keys(rgb, SHOWN_KEYS)
        if rendering.own_camera is not None:
            rgb = self._overlay.alarm(rgb, OWN_CAMERA_SHOWN, f"press {HOLD_KEY} to show the portrait again")
        elif self._gesture.state is State.ARMED:
            rgb = self._overlay.alarm(rgb, "Show your own camera?", f"press {CONFIRM_KEY} to do it, wait to leave it")
        if self._is_closed_by_user():
            return
        cv2.imshow(TITLE, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        self._is_shown = True

    def press(self, key_code: int) -> None:
        """One key as OpenCV reports it, -1 for none."""
        if key_code < 0:
            return
        key = chr(key_code & 0xFF)
        if self._gesture.press(key):
            return
        if key == "?":
            self.has_help = not self.has_help
        elif key == "o":
            self.has_overlay = not self.has_overlay
        elif key == "\x1b" and self.has_help:
            self.has_help = False
        elif key in COMMAND_KEYS:
            self._commands.append(COMMAND_KEYS[key])

    def commands(self) -> Sequence[Command]:
        """Read the keyboard. Ask often: OpenCV keeps only the last of the keys pressed since it was asked."""
        if self._is_shown and not self._is_closed_by_user():
            for _ in range(MOST_KEYS_AT_ONCE):
                key_code = cv2.pollKey()
                if key_code < 0:
                    break
                self.press(key_code)
            self._gesture.tick()
        commands, self._commands = self._commands, []
        return commands

    def _is_closed_by_user(self) -> bool:
        """Whether the window's close button was pressed, which ends the program."""
        is_closed = self._is_shown and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
        if is_closed:
            self._gesture.end()
            self._commands.append(Command.QUIT)
        return is_closed

    def close(self) -> None:
        self._gesture.end()
        if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 0:
            cv2.destroyWindow(TITLE)


def missing_display() -> str | None:
    """Why no window can be opened here, or None. Asked first, because Qt ends the process where there is no display."""
    if sys.platform != "linux":
        return None
    display = os.environ.get("DISPLAY")
    if not display:
        hint = " (Wayland without XWayland)" if os.environ.get("WAYLAND_DISPLAY") else ""
        return f"DISPLAY is not set{hint}. Run in a desktop session, or with --output null --record out.mp4."
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return None  # not the usual library, so it can't be asked
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    connection = x11.XOpenDisplay(display.encode())
    if not connection:
        return f"display {display} does not answer. Run in a desktop session, or with --output null --record out.mp4."
    x11.XCloseDisplay(connection)
    return None
