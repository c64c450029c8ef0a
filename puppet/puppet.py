"""Puppet: a portrait that can be animated by name. This is what the live loop, notebooks and tests use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from puppet import facs
from puppet.errors import EngineError
from puppet.generate.canvas import default_size, frame_portrait
from puppet.generate.folds import FoldMaps
from puppet.generate.generator import Generator, Timings
from puppet.generate.mouth import MouthPictures
from puppet.generate.texture import TextureModel
from puppet.portrait import Portrait
from puppet.provenance import Provenance
from puppet.rig import LandmarkRig

if TYPE_CHECKING:
    from puppet.generate.device import DeviceGenerator, DeviceTimings

log = logging.getLogger(__name__)

ReadActions = Callable[[Portrait], np.ndarray]
"""What a portrait itself shows: a control `(SIZE,)` of which the intensities are used."""

OpenDevice = Callable[[Generator], "DeviceGenerator | None"]
"""Gives what renders in a prepared generator's stead, None where nothing does better: `puppet.generate.device`."""

_LIDS = tuple(i for name in ("AU05", "AU07", "AU45") for i in facs.columns_of(name))
_LEAST_BASELINE = 0.5  # weaker readings of a still are noise


def read_expression(portrait: Portrait) -> np.ndarray:
    """What a still portrait shows, `(SIZE,)`, by the packaged AU regressor."""
    from puppet.estimate import AuEstimator
    from puppet.track import Face

    estimator = AuEstimator(learn_neutral=False)
    try:
        height, width = portrait.rgb.shape[:2]
        return estimator.estimate(Face(portrait.landmarks_px, (width, height))).control
    finally:
        estimator.close()


class Puppet:
    """One portrait, ready to be animated.

    Controls: intensities 0-5 are absolute (0 is a neutral face, whatever the portrait shows); eyes and head are
    relative to the portrait's own.

        puppet = Puppet.load("portrait.jpg")
        rgb = puppet.animate(AU12=3, AU45_L=5, yaw_rad=0.2)
    """

    def __init__(
        self,
        portrait: Portrait,
        *,
        size: tuple[int, int] | None = None,
        read_actions: ReadActions | None = None,
        texture: TextureModel | None = None,
        folds: FoldMaps | None = None,
        mouth: MouthPictures | None = None,
        open_device: OpenDevice | None = None,
    ) -> None:
        """`size` (width, height) of what is rendered; None keeps the portrait's aspect, 512 on the short side.

        `read_actions` says what the portrait itself shows (a smile is then relaxed by a neutral driver); None takes
        the portrait's face as neutral but for the gap between its lips. `texture` repaints what motion uncovers and
        `folds` shade the skin; None leaves motion alone. `mouth` None draws the packaged teeth.
        """
        canvas = frame_portrait(portrait, size or default_size(portrait))
        self.name = portrait.name
        self.provenance: Provenance | None = None
        """Its file and who allowed it, where the program has read them."""
        self._generator = Generator(
            canvas, LandmarkRig.load(), mouth or MouthPictures.load(), texture=texture, folds=folds
        )
        if read_actions is not None:
            self._generator.set_baseline(_trusted(read_actions(portrait)))
        self._device = open_device(self._generator) if open_device is not None else None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        size: tuple[int, int] | None = None,
        face: int = 0,
        framing: Literal["full", "head"] = "full",
        read_actions: ReadActions | None = read_expression,
        texture: TextureModel | None = None,
        folds: FoldMaps | None = None,
        mouth: MouthPictures | None = None,
        open_device: OpenDevice | None = None,
    ) -> Puppet:
        """Load a picture and prepare its animation (about a second).

        The portrait's own expression is read, so that a smiling one relaxes for a neutral control; `read_actions` None
        takes it as neutral. `framing` 'head' cuts the picture to head and shoulders, 'full' keeps it whole.

        Raises:
            PortraitError: the picture can't be read or animated; see `Portrait.load`.
        """
        portrait = Portrait.load(path, face=face)
        if framing == "head":
            portrait = portrait.cut_to_head()
        return cls(
            portrait,
            size=size,
            read_actions=read_actions,
            texture=texture,
            folds=folds,
            mouth=mouth,
            open_device=open_device,
        )

    @property
    def generator(self) -> Generator:
        """What animates it, for measurements and training."""
        return self._generator

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a rendering."""
        return self._generator.canvas.size

    @property
    def still(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB: the untouched portrait at the rendered size; not to be written to."""
        return self._generator.canvas.still

    @property
    def rest_control(self) -> np.ndarray:
        """The control `(SIZE,)` that gives the portrait exactly as it is; a new array."""
        return self._generator.baseline.copy()

    @property
    def landmarks_px(self) -> np.ndarray:
        """`(478, 3)` float32 landmarks of the still, in rendered pixels (see `puppet.track.Face`)."""
        return self._generator.canvas.landmarks_px

    @property
    def timings(self) -> Timings | DeviceTimings:
        """Milliseconds of the last rendering's stages."""
        return self._generator.timings if self._device is None else self._device.timings

    @property
    def renders_on(self) -> str:
        """What renders: "numpy on cpu", "tensorrt on cuda"."""
        return "numpy on cpu" if self._device is None else f"{self._device.info.backend} on {self._device.info.device}"

    def render(self, control: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB of one control `(SIZE,)`, a new contiguous array."""
        return self._render(facs.clip(control))

    def animate(self, **actions: float) -> np.ndarray:
        """The same by name, from a neutral face: `animate(AU12=3, AU45_L=5, yaw_rad=0.2)`.

        Raises:
            ConfigError: an unknown name or a value out of its range.
        """
        return self._render(facs.control(**actions))

    def close(self) -> None:
        if self._device is not None:
            self._device.close()
        self._generator.close()

    def _render(self, control: np.ndarray) -> np.ndarray:
        if self._device is not None:
            try:
                return self._device.render(control)
            except EngineError as exc:
                log.warning("the generator goes on with NumPy on the CPU: %s", exc)
                self._device.close()
                self._device = None
        return self._generator.render(control)


def _trusted(control: np.ndarray) -> np.ndarray:
    """The part of a reading that is used as a portrait's own expression.

    Lids are left out: how wide a portrait's eyes stand is the shape of its face, and AU45 = 5 always closes them.
    """
    baseline = facs.rest()
    count = facs.INTENSITY_COUNT
    baseline[:count] = np.where(control[:count] >= _LEAST_BASELINE, control[:count], 0)
    baseline[list(_LIDS)] = 0
    return baseline
