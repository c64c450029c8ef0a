"""A torch module of fixed shapes on an NVIDIA card, recorded once as a CUDA graph and replayed.

Only the inputs go up and only the outputs come down, through page-locked memory, and a run is one launch instead of one
for each of a thousand kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

_WARM_UP_RUNS = 3  # libraries choose their kernels in the first ones, which can't be recorded


class RecordedModule:
    """Runs `module` on arrays; not for two threads at once."""

    def __init__(
        self,
        module: nn.Module,
        example: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        device: torch.device,
        *,
        is_recorded: bool = True,
    ) -> None:
        """`module` is on the device; `is_recorded` False launches it anew each time.

        Raises:
            RuntimeError: the module does something that can't be recorded, or the card is out of memory.
        """
        self._module, self._outputs, self._device = module, list(outputs), device
        self._staged = {name: _page_locked(torch.from_numpy(a.copy())) for name, a in example.items()}
        with torch.cuda.device(device), torch.inference_mode():
            self._inputs = {name: staged.to(device) for name, staged in self._staged.items()}
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP_RUNS):
                    results = self._call()
            self._stream.synchronize()
            self._graph: torch.cuda.CUDAGraph | None = None
            if is_recorded:
                self._graph = torch.cuda.CUDAGraph()
                # Other threads (the tracker's, a portrait being loaded) may use the card meanwhile.
                with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                    results = self._call()
            self._results = results
            self._fetched = [_page_locked(torch.empty(r.shape, dtype=r.dtype)) for r in results]

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, new arrays."""
        for name, array in arrays.items():
            np.copyto(self._staged[name].numpy(), array)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream), torch.inference_mode():
            for name, staged in self._staged.items():
                self._inputs[name].copy_(staged, non_blocking=True)
            if self._graph is not None:
                self._graph.replay()
            else:
                self._results = self._call()
            for fetched, result in zip(self._fetched, self._results, strict=True):
                fetched.copy_(result, non_blocking=True)
            self._stream.synchronize()
        return {name: fetched.numpy().copy() for name, fetched in zip(self._outputs, self._fetched, strict=True)}

    def step(self) -> None:
        """One run on the inputs of the last, with nothing copied; returns when the card is done. For measurements."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream), torch.inference_mode():
            if self._graph is not None:
                self._graph.replay()
            else:
                self._results = self._call()
            self._stream.synchronize()

    def peak_memory_mib(self) -> float:
        """The most that torch has held on the card, all of this process's modules together."""
        return torch.cuda.max_memory_allocated(self._device) / 2**20

    def _call(self) -> tuple[torch.Tensor, ...]:
        results = self._module(*self._inputs.values())
        return tuple(results) if isinstance(results, (tuple, list)) else (results,)


def _page_locked(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.pin_memory()
