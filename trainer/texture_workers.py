"""Shards read and unpacked by processes of their own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from webdataset.shardlists import split_by_worker

from trainer.texture_data import endless
from trainer.texture_shards import Example


class _Shards(IterableDataset):
    def __init__(self, paths: Sequence[Path], region: str, seed: list[int]) -> None:
        self._paths, self._region, self._seed = list(paths), region, seed

    def __iter__(self) -> Iterator[tuple[int, Example | None]]:
        number = get_worker_info().id
        for example in endless(list(split_by_worker(self._paths)), self._region, self._seed):
            yield number, example


def read_by_workers(paths: Sequence[Path], region: str, seed: list[int], workers: int) -> Iterator[Example | None]:
    """As `trainer.texture_data.endless`; None comes once. Until then every example comes once, however fast each
    worker is."""
    # Spawned, not forked: threads of engines and trackers in this process would not survive a fork.
    loader = DataLoader(
        _Shards(paths, region, seed), batch_size=None, num_workers=workers, multiprocessing_context="spawn"
    )
    examples = iter(loader)
    _leave_children_to_die_unheard()
    finished: set[int] = set()
    for number, example in examples:
        if len(finished) == workers:
            if example is not None:
                yield example
        elif example is None:
            finished.add(number)
            if len(finished) == workers:
                yield None
        elif number not in finished:
            yield example


def _leave_children_to_die_unheard() -> None:
    """Take back the signal handler that the loader sets; it looks for dead workers every five seconds without it.

    Python runs handlers on the thread's alternate stack. Where another library has set one and freed it (seen beside
    OpenVINO), the first worker that ends would take this process along: a segmentation fault in whatever waits.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
