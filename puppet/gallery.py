"""The portraits of a run: one picture, or a folder to switch through while the show goes on."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from puppet.errors import InputError, PuppetError
from puppet.input_file import kind_of, pictures_in
from puppet.memory import give_back
from puppet.picture import EXPECTED, SUFFIXES

log = logging.getLogger(__name__)


class Closable(Protocol):
    def close(self) -> None: ...


P = TypeVar("P", bound=Closable)


class Gallery(Generic[P]):
    """Shows one portrait and loads its neighbour ahead, in a thread.

    `load(path)` makes a portrait or raises a PuppetError. The first one that can be loaded is `current` at once; a
    neighbour that can't be is left out with a warning. `shared` is what portraits are loaded with; it is closed last.

    Raises:
        PuppetError: the only portrait, or every one, can't be loaded.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[Path], P], *, shared: Sequence[Closable] = ()) -> None:
        self._paths, self._load, self._shared = list(paths), load, shared
        self._place = 0
        self._wanted: int | None = None
        self._ahead: dict[Path, Future[P]] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="portrait")
        self.current = self._load_first()

    @property
    def path(self) -> Path:
        return self._paths[self._place]

    def preload(self) -> None:
        """Load the next portrait in the background, if there is one."""
        self._start((self._place + 1) % len(self._paths))

    def ask(self, step: int) -> None:
        """Switch by +1 or -1 as soon as that portrait is loaded."""
        if len(self._paths) > 1:
            start = self._place if self._wanted is None else self._wanted
            self._wanted = (start + step) % len(self._paths)
            self._start(self._wanted)

    def switched(self) -> bool:
        """Make the asked portrait `current` if it is ready; never waits. Call it between frames."""
        if self._wanted is None:
            return False
        path = self._paths[self._wanted]
        future = self._ahead.get(path)
        if future is None or not future.done():
            return False
        del self._ahead[path]
        try:
            new = future.result()
        except PuppetError as error:
            log.warning("left out of the gallery: %s", error)
            self._paths.remove(path)
            self._place -= self._wanted < self._place
            self._wanted = None
            return False
        self.current.close()
        self.current, self._place, self._wanted = new, self._wanted, None
        self._forget_others()
        self.preload()
        self._loader.submit(give_back)
        return True

    def close(self) -> None:
        self._loader.shutdown(cancel_futures=True)
        for future in self._ahead.values():
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()
        self.current.close()
        for part in self._shared:
            part.close()

    def _start(self, place: int) -> None:
        path = self._paths[place]
        if place != self._place and path not in self._ahead:
            self._ahead[path] = self._loader.submit(self._load, path)

    def _forget_others(self) -> None:
        """Keep one portrait ahead: each holds tens of megabytes."""
        keep = self._paths[(self._place + 1) % len(self._paths)]
        for path in [p for p in self._ahead if p != keep]:
            self._ahead.pop(path).add_done_callback(_close_result)

    def _load_first(self) -> P:
        problem: PuppetError | None = None
        while self._paths:
            try:
                return self._load(self._paths[0])
            except PuppetError as error:
                problem = problem or error
                if len(self._paths) > 1:
                    log.warning("left out of the gallery: %s", error)
                del self._paths[0]
        self._loader.shutdown()
        raise problem or InputError("the gallery holds no portraits.")


def _close_result(future: Future) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()


def portrait_paths(target: str | None) -> list[Path]:
    """Pictures named by `--target`; None is the astronaut that comes with scikit-image (a NASA photograph).

    Raises:
        InputError: no such file, or a folder without pictures.
    """
    if target is None:
        return [demo_portrait()]
    path = Path(target)
    kind = kind_of(path)
    if kind == "folder":
        return pictures_in(path, SUFFIXES)
    if kind == "missing":
        raise InputError(f"--target {path}: no such file. Give {EXPECTED} or a folder of them.")
    return [path]


def demo_portrait() -> Path:
    """scikit-image's astronaut, found without importing it."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise InputError("the demo portrait comes with scikit-image: pip install scikit-image, or give --target.")
    return Path(spec.origin).parent / "data" / "astronaut.png"
