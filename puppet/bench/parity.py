"""Parity: whether all engines give the same answers, on inputs as the program makes them.

Inputs come from portraits with other colours, light and sizes, and controls anywhere in their ranges. The reference is
torch in fp32, or for networks ONNX Runtime where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import engines
from engines.golden import TOLERANCE
from puppet import facs
from puppet.estimate import MODEL_PATH, align
from puppet.gallery import demo_portrait
from puppet.generate.device import DeviceGenerator
from puppet.generate.folds import FoldMaps
from puppet.generate.painter import TextureNetworks
from puppet.landmarks import TRACKED_COUNT
from puppet.portrait import Portrait
from puppet.puppet import Puppet
from puppet.rig import LandmarkRig

Arrays = Mapping[str, np.ndarray]
REFERENCES = ("torch", "onnxruntime")
_SIDES_PX = (256, 640)
_GAZE_RAD = 0.5
_TURN_RAD = 0.3


@dataclass(frozen=True)
class Parity:
    """How far one engine's answers are from the reference's, as a share of the output's range (at least 1)."""

    network: str
    engine: str
    device: str
    precision: str
    reference: str
    inputs: int
    max_error: float | None  # None: the engine does not take the network
    tolerance: float
    reason: str = ""  # why it does not

    @property
    def is_within(self) -> bool:
        return self.max_error is not None and self.max_error <= self.tolerance


def random_control(random: np.random.Generator) -> np.ndarray:
    """`(SIZE,)`: intensities anywhere in 0-5, half of them absent; eyes and head as far as a portrait follows."""
    control = facs.rest()
    count = facs.INTENSITY_COUNT
    control[:count] = random.uniform(0, facs.MAX_INTENSITY, count) * (random.random(count) < 0.5)
    for names, limit in ((facs.GAZE_NAMES, _GAZE_RAD), (facs.HEAD_NAMES[:3], _TURN_RAD)):
        control[[facs.INDEX[name] for name in names]] = random.uniform(-limit, limit, len(names))
    return facs.clip(control)


def collect_inputs(count: int, *, portraits: Sequence[Path] = (), seed: int = 0) -> dict[Path, list[Arrays]]:
    """What each packaged network is given for `count` random portraits and controls: model file -> inputs.

    `portraits` stand beside the astronaut that comes with scikit-image; pictures without a usable face raise
    PortraitError.
    """
    random = np.random.default_rng(seed)
    sources = [Portrait.load(path) for path in (demo_portrait(), *portraits)]
    found: dict[Path, list[Arrays]] = {MODEL_PATH: []}

    def load(path: Path, **shapes) -> _Listener:
        return _Listener(engines.load(path, backend="onnxruntime", **shapes), found.setdefault(path, []))

    mean_cm = LandmarkRig.load().mean_cm[:TRACKED_COUNT].astype(np.float64)
    with closing(TextureNetworks(load=load)) as networks:
        for index in range(count):
            portrait = _varied(sources[index % len(sources)], random)
            side = int(random.integers(_SIDES_PX[0] // 2, _SIDES_PX[1] // 2)) * 2
            puppet = Puppet(portrait, size=(side, side), texture=networks)
            puppet.render(random_control(random))
            found[MODEL_PATH].append(_regressor_input(portrait, mean_cm, random))
    return found


def compare(
    inputs: Mapping[Path, Sequence[Arrays]],
    variants: Iterable[tuple[str, str, str]],
    *,
    cache: engines.EngineCache | None = None,
) -> list[Parity]:
    """Every variant (engine, device, precision) on every network.

    Raises:
        EngineError: no reference runs here.
    """
    results, variants = [], list(variants)
    for path, samples in inputs.items():
        reference, expected = _reference_answers(path, samples, cache)
        scales = _scales(expected)
        for backend, device, precision in variants:
            error, reason = None, ""
            try:
                engine = engines.load(path, backend=backend, device=device, precision=precision, cache=cache)
                with closing(engine):
                    error = max(
                        _error(engine.run(arrays), answer, scales)
                        for arrays, answer in zip(samples, expected, strict=True)
                    )
            except engines.EngineError as exc:
                reason = str(exc)
            results.append(
                Parity(
                    path.stem, backend, device, precision, reference, len(samples), error, TOLERANCE[precision], reason
                )
            )
    return results


def compare_generators(
    portraits: Sequence[Path],
    places: Iterable[tuple[str, str]],
    *,
    count: int,
    size: tuple[int, int] | None = None,
    cache: engines.EngineCache | None = None,
    seed: int = 0,
) -> list[Parity]:
    """Whole pictures of every engine and device, in fp32, on `count` random controls shared out among the portraits
    (or among the first `count` of them).

    All networks paint in them, and folds. Each portrait is exported and compiled anew, which takes a minute or more.

    Raises:
        PortraitError, EngineError: a picture without a usable face; torch is not installed.
    """
    random, portraits = np.random.default_rng(seed), portraits[:count]
    errors: dict[tuple[str, str], float | None] = dict.fromkeys(places, 0.0)
    reasons: dict[tuple[str, str], str] = {}
    version = ""
    with closing(TextureNetworks(engine="onnxruntime", device="cpu")) as networks:
        for path, share in zip(portraits, np.array_split(np.arange(count), len(portraits)), strict=True):
            controls = [random_control(random) for _ in share]
            generator = Puppet.load(path, size=size, texture=networks, folds=FoldMaps.load()).generator
            with closing(DeviceGenerator(generator, engine="torch", device="cpu")) as reference:
                version, expected = reference.info.version, [reference.render(control) for control in controls]
            for place in [place for place in errors if place not in reasons]:
                engine, device = place
                try:
                    with closing(DeviceGenerator(generator, engine=engine, device=device, cache=cache)) as made:
                        found = [made.render(control) for control in controls]
                except engines.EngineError as exc:
                    errors[place], reasons[place] = None, str(exc)
                    continue
                levels = max(np.abs(a.astype(int) - b).max() for a, b in zip(found, expected, strict=True))
                errors[place] = max(errors[place], levels / 255)
    return [
        Parity("generator", *place, "fp32", version, count, error, TOLERANCE["fp32"], reasons.get(place, ""))
        for place, error in errors.items()
    ]


class _Listener:
    """An engine whose inputs are kept."""

    def __init__(self, engine: engines.Engine, inputs: list[Arrays]) -> None:
        self._engine, self._kept = engine, inputs
        self.info, self.inputs, self.outputs = engine.info, engine.inputs, engine.outputs

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        self._kept.append({name: array.copy() for name, array in arrays.items()})
        return self._engine.run(arrays)

    def compiled(self) -> bytes:
        return self._engine.compiled()

    def close(self) -> None:
        self._engine.close()


def _varied(portrait: Portrait, random: np.random.Generator) -> Portrait:
    """The same face as another picture: its colours change places, light, contrast, grain and sharpness are others."""
    rgb = portrait.rgb[..., random.permutation(3)].astype(np.float32) / 255
    rgb = rgb ** random.uniform(0.5, 2.0) * random.uniform(0.6, 1.0)
    rgb += random.normal(0, random.uniform(0, 0.05), rgb.shape).astype(np.float32)
    rgb = np.clip(rgb * 255, 0, 255).astype(np.uint8)
    if random.random() < 0.5:
        rgb = cv2.GaussianBlur(rgb, (0, 0), random.uniform(0.5, 2.0))
    return Portrait(rgb, portrait.landmarks_px, portrait.name).cut_to_head()


def _regressor_input(portrait: Portrait, mean_cm: np.ndarray, random: np.random.Generator) -> Arrays:
    """A face that does something, with its neutral, in a batch of two as `puppet.estimate` makes it."""
    rig = LandmarkRig.load()
    identity = random.normal(0, 1, len(rig.identity_cm))
    weights = random.random(len(rig.actions)) * (random.random(len(rig.actions)) < 0.3)
    neutral = align(portrait.landmarks_px, mean_cm).landmarks_cm + np.tensordot(identity, _tracked(rig.identity_cm), 1)
    shown = (neutral + np.tensordot(weights, _tracked(rig.action_cm), 1)).astype(np.float32)
    neutral = neutral.astype(np.float32)
    head_rad = random.uniform(-_TURN_RAD, _TURN_RAD, 3).astype(np.float32)
    return {
        "landmarks_cm": np.stack([shown, shown]),
        "neutral_cm": np.stack([shown, neutral]),
        "head_rad": np.stack([head_rad, head_rad]),
        "has_neutral": np.array([[0.0], [1.0]], np.float32),
    }


def _tracked(basis_cm: np.ndarray) -> np.ndarray:
    return basis_cm[:, :TRACKED_COUNT]


def _reference_answers(
    path: Path, samples: Sequence[Arrays], cache: engines.EngineCache | None
) -> tuple[str, list[dict[str, np.ndarray]]]:
    reasons = []
    for name in REFERENCES:
        try:
            with closing(engines.load(path, backend=name, device="cpu", cache=cache)) as engine:
                return engine.info.version, [engine.run(arrays) for arrays in samples]
        except engines.EngineError as exc:
            reasons.append(str(exc))
    raise engines.EngineError(f"no reference for {path.name}: {' '.join(reasons)}")


def _scales(answers: Sequence[Arrays]) -> dict[str, float]:
    names = answers[0] if answers else ()
    return {name: max(1.0, *(float(np.abs(answer[name]).max()) for answer in answers)) for name in names}


def _error(found: Arrays, expected: Arrays, scales: Mapping[str, float]) -> float:
    return max(
        float(np.abs(found[name].astype(np.float64) - value).max()) / scales[name] for name, value in expected.items()
    )
