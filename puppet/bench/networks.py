"""Networks alone: the shipped ones and, to compare with, the plain GANimation generator, on one engine each."""

from __future__ import annotations

import time
from pathlib import Path

import engines
from engines.golden import seeded_inputs
from puppet.bench.ganimation import RESIDUAL_BLOCKS, write_ganimation
from puppet.stats import Stats

MODELS = Path(__file__).parent.parent / "models"


class NetworkLane:
    """One network on one engine.

    Raises:
        EngineError: the engine does not take it.
    """

    def __init__(self, path: Path, backend: str, device: str, cache: engines.EngineCache) -> None:
        self.network, self.backend, self.device = path.stem, backend, device
        self._stats = Stats()
        self._engine = engines.load(path, backend=backend, device=device, cache=cache)
        self._inputs = seeded_inputs(self._engine.inputs)

    def run(self, seconds: float) -> None:
        """Run it again and again for so long, once at least."""
        end_s = time.perf_counter() + seconds
        while True:
            processor_s = time.process_time()
            with self._stats.timed("run"):
                self._engine.run(self._inputs)
            self._stats.add("processor", (time.process_time() - processor_s) * 1e3)
            if time.perf_counter() > end_s:
                return

    def report(self) -> dict:
        """Ready for JSON; milliseconds."""
        info, stages = self._engine.info, self._stats.report()["stages_ms"]
        return {
            "network": self.network,
            "engine": self.backend,
            "device": self.device,
            "precision": info.precision,
            "threads": info.threads,
            "run_ms": stages["run"],
            "processor_ms": stages["processor"],
        }

    def close(self) -> None:
        self._engine.close()


def packaged_networks() -> list[Path]:
    """The ONNX files that come with the package."""
    return sorted(MODELS.glob("*.onnx"))


def ganimation_networks(folder: Path) -> dict[Path, int]:
    """The plain generators, written into a folder, with their numbers of parameters.

    Raises:
        InputError: the onnx package is not installed.
    """
    paths = {size: folder / f"ganimation_{size}.onnx" for size in RESIDUAL_BLOCKS}
    return {path: write_ganimation(path, size) for size, path in paths.items()}
