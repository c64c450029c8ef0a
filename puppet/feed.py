"""A feed: one thread makes items, another takes them; either the newest wins or all come in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Runs an iterable in a thread of its own.

    `ahead=None` is the live rule: a slot of one that the next item overwrites; `dropped` counts what nobody took.
    With `ahead=N` the thread makes at most N items before it waits, and all of them are taken in order.
    An error in the thread is raised where items are taken, after the items made before it.
    """

    def __init__(self, items: Iterable[T], *, ahead: int | None, name: str) -> None:
        self.dropped = 0
        self._ahead = ahead
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._is_done = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, args=(items,), name=name, daemon=True)
        self._thread.start()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left and nothing will come, no error either."""
        with self._changed:
            return self._is_done and not self._items and self._error is None

    def take(self, timeout_s: float | None = None) -> T | None:
        """The next item (of a slot: the newest), or None if none came in time or the feed is finished.

        Raises:
            Whatever the iterable raised, once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._is_done, timeout_s)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def __iter__(self) -> Iterator[T]:
        """Items until the feed is finished."""
        while True:
            item = self.take()
            if item is None:
                return
            yield item

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop making items; waits for the thread, but not forever: a camera's driver may hang."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as error:  # handed to the thread that takes, not handled
            self._error = error
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Whether more items are wanted."""
        with self._changed:
            if self._ahead is None:
                self.dropped += len(self._items)
                self._items.clear()
            else:
                self._changed.wait_for(lambda: len(self._items) < self._ahead or self._is_closed)
            if not self._is_closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._is_closed
