"""Device: the whole generator on a graphics card, only the control going up and only the finished picture coming down.

`graph` writes the generator as one torch module, `engines` compiles and runs it. On a CPU the NumPy generator is
faster than any compiled one (`engines/log`), so that it is taken there, and wherever the card's picture is not right.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import engines
from engines.devices import cuda_card
from puppet import facs
from puppet.errors import EngineError

if TYPE_CHECKING:
    from puppet.generate.generator import Generator

log = logging.getLogger(__name__)

CARD_ENGINES = ("auto", "tensorrt", "torch")
_GOLDEN = {"AU12": 2.5, "AU25": 3.0, "AU26": 2.0, "AU45_L": 2.0, "AU04": 2.0, "gaze_yaw_rad": 0.2, "yaw_rad": 0.12}
_CHECKED = (_GOLDEN, {"AU45": 5.0, "AU25": 0.0, "pitch_rad": -0.1}, {"AU26": 5.0, "AU25": 5.0, "roll_rad": 0.2})
_OFF_LEVELS, _OFF_SHARE = 4, 0.01
"""An engine is refused where more than this share of a picture's pixels is further from NumPy's than so many grey
levels. A little differs: `cv2` rounds the positions that it samples at."""


@dataclass(frozen=True)
class DeviceTimings:
    """Milliseconds of the last frame, from control to picture."""

    device_ms: float


def card_for(engine: str, device: str) -> tuple[str | None, str]:
    """The card that a run with these options would animate on, and why; None: the NumPy generator on the CPU."""
    if engine not in CARD_ENGINES:
        return None, f"--engine {engine} computes networks only"
    if device != "auto" and not device.startswith("cuda"):
        return None, f"--device {device}"
    place = "cuda" if device == "auto" else device
    try:
        card = cuda_card(place)
    except EngineError as exc:
        return None, str(exc).rstrip(".")
    return place, card.name


class DeviceGenerator:
    """One portrait as a compiled graph. Renders what the `Generator` renders that it is made from."""

    def __init__(
        self,
        generator: Generator,
        *,
        engine: str = "auto",
        device: str = "cuda",
        cache: engines.EngineCache | None = None,
        attempts: list[engines.Attempt] | None = None,
    ) -> None:
        """`generator` has its baseline; what it is given afterwards does not change this one.

        Raises:
            EngineError: torch is missing, no engine runs the graph as a whole, or its pictures are not the generator's.
        """
        self._engine = engines.load(
            graph_program(generator), backend=engine, device=device, cache=cache, attempts=attempts
        )
        try:
            _check_pictures(self, generator)
        except EngineError:
            self.close()
            raise
        self.timings = DeviceTimings(0.0)

    @property
    def info(self) -> engines.EngineInfo:
        return self._engine.info

    def render(self, control: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB, a new array, of a control `(SIZE,)` within the table's ranges.

        Raises:
            EngineError: the device failed.
        """
        started = time.perf_counter()
        rgb = self._engine.run({"control": np.asarray(control, np.float32)})["rgb"]
        self.timings = DeviceTimings(1e3 * (time.perf_counter() - started))
        return rgb

    def step_ms(self, runs: int = 100) -> list[float]:
        """Milliseconds of each of some steps on the card alone, nothing copied; without a card of whole renderings."""
        recorded = getattr(self._engine, "recorded", None)
        step = recorded.step if recorded is not None else lambda: self.render(facs.control(**_GOLDEN))
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - started))
        return times

    def close(self) -> None:
        self._engine.close()


def open_device(generator: Generator, *, engine: str, device: str) -> DeviceGenerator | None:
    """The device's generator where there is a card that shows the right pictures; None: the NumPy one is to be used.

    What was taken and why is logged: a card that fails is no reason not to go on air.
    """
    place, why = card_for(engine, device)
    if place is None:
        log.info("generator: NumPy on the CPU (%s)", why)
        return None
    try:
        made = DeviceGenerator(generator, engine=engine, device=place)
    except EngineError as exc:
        log.warning("generator: NumPy on the CPU, for %s does not draw the portrait: %s", why, exc)
        return None
    log.info("generator: whole on the card: %s", made.info)
    return made


def graph_program(generator: Generator) -> engines.Program:
    """One portrait's generator for `engines.load`: `control` `(SIZE,)` float32 in, `rgb` `(H, W, 3)` uint8 out.

    Raises:
        EngineError: torch is not installed.
    """
    try:
        from puppet.generate.graph.generator import GeneratorGraph, PictureStep
    except ImportError as exc:
        raise EngineError(
            f'the generator\'s graph needs torch ({exc}). Install it with: pip install "puppet-portrait[torch]"'
        ) from exc
    height, width = generator.canvas.still.shape[:2]
    return engines.Program(
        name="generator",
        module=PictureStep(GeneratorGraph(generator)),
        inputs={"control": engines.TensorSpec((facs.SIZE,), np.dtype(np.float32))},
        outputs={"rgb": engines.TensorSpec((height, width, 3), np.dtype(np.uint8))},
        golden={"control": facs.control(**_GOLDEN)},
        code=_code(),
        metadata={"columns": " ".join(facs.NAMES), "producer": "puppet", "range": "intensities 0-5, radians"},
    )


def _code() -> str:
    """Identity of the sources that make a graph: another version of them is another engine."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), *folder.glob("graph/*.py"), folder.parent / "facs.py"]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _check_pictures(made: DeviceGenerator, generator: Generator) -> None:
    """Raise EngineError where the engine's pictures are not the NumPy generator's."""
    for actions in _CHECKED:
        control = facs.control(**actions)
        # Integers of 8 bits would wrap round.
        off = np.abs(made.render(control).astype(np.int16) - generator.render(control)).max(-1) > _OFF_LEVELS
        if off.mean() > _OFF_SHARE:
            raise EngineError(
                f"refused: {made.info.backend} on {made.info.device} draws {100 * off.mean():.1f} % of the pixels "
                f"differently from the NumPy generator: expected at most {100 * _OFF_SHARE:g} %."
            )
