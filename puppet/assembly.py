"""Assemble: the parts of a run made from its options, each where it can be opened beside the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from puppet.capture import FrameDriver, TrackDriver, open_driver
from puppet.config import Options, parse_gains, parse_size
from puppet.gallery import Gallery, demo_portrait
from puppet.performance import Performer
from puppet.provenance import Provenance
from puppet.publish import Sink, open_sink
from puppet.retarget import Retargeter
from puppet.stats import Stats

if TYPE_CHECKING:  # what takes long to import is imported where it is opened, in threads
    from puppet.estimate import AuEstimator
    from puppet.generate.folds import FoldMaps
    from puppet.generate.mouth import MouthPictures
    from puppet.generate.painter import TextureNetworks
    from puppet.portrait import Portrait
    from puppet.publish.recorder import Sign
    from puppet.track import FaceTracker

log = logging.getLogger(__name__)


def plan(options: Options) -> list[str]:
    """What `run` would do, one line a decision; nothing is opened."""
    publish, retarget = options.publish, options.retarget
    files = [str(path) for path in (publish.record, publish.au_log, publish.stats) if path is not None]
    order = "every frame in order" if options.driver.as_fast_as_possible else "live"
    side = "mirrored" if retarget.mirror else "not mirrored"
    size, rate = options.portrait.size or "short side 512", f"{publish.fps:g}" if publish.fps else "the driver's"
    return [
        f"portrait  {options.portrait.target or demo_portrait()}, face {options.portrait.face}, {framing_of(options)}",
        f"driver    {options.driver.driver}, {order}",
        f"retarget  {retarget.preset}, gain {parse_gains(retarget.gain)}, mute {list(retarget.mute)}, "
        f"head {retarget.head:g}, {side}",
        f"engine    {options.engine.engine} on {options.engine.device}",
        f"publish   {size} at {rate} fps to {', '.join((*output_names(options), *files))}, badge {publish.badge}, "
        f"credentials {publish.credentials}",
    ]


def output_names(options: Options) -> tuple[str, ...]:
    if options.publish.output:
        return options.publish.output
    if options.driver.as_fast_as_possible:
        return ("null",)
    return ("preview",) if is_file(options) else ("virtualcam", "preview")


def is_file(options: Options) -> bool:
    """Whether the driver is read or scripted, rather than a camera."""
    return options.driver.driver.partition(":")[0] != "camera"


def framing_of(options: Options) -> Literal["full", "head"]:
    """How much of the picture is shown; the demo portrait shows more suit than face."""
    if options.portrait.framing != "auto":
        return options.portrait.framing
    return "full" if options.portrait.target else "head"


def open_gallery(options: Options, paths: Sequence[Path]) -> Gallery:
    """The portraits at `paths`, all of the first one's published size; their own expressions are read."""
    from puppet.estimate import AuEstimator
    from puppet.generate.device import open_device
    from puppet.puppet import Puppet
    from puppet.track import Face

    size = parse_size(options.portrait.size) if options.portrait.size else None
    framing = framing_of(options)
    texture, folds, mouth = open_texture(options), open_folds(options), open_mouth(options)
    # Not the one that watches the driver: that one learns the driver's face, and serves another thread.
    estimator = AuEstimator(engine=options.engine.engine, device=options.engine.device, learn_neutral=False)

    def read_actions(portrait: Portrait) -> np.ndarray:
        height, width = portrait.rgb.shape[:2]
        return estimator.estimate(Face(portrait.landmarks_px, (width, height))).control

    def load(path: Path) -> Puppet:
        nonlocal size
        provenance = Provenance.read(path)
        puppet = Puppet.load(
            path,
            size=size,
            face=options.portrait.face,
            framing=framing,
            read_actions=read_actions,
            texture=texture,
            folds=folds,
            mouth=mouth,
            open_device=partial(open_device, engine=options.engine.engine, device=options.engine.device),
        )
        puppet.provenance = provenance
        size = puppet.size
        return puppet

    return Gallery(paths, load, shared=[estimator, texture] if texture else [estimator])


def open_texture(options: Options) -> TextureNetworks | None:
    """The texture networks, for all portraits; None: motion alone.

    By default lids alone are painted: that gains most, and costs nothing while the eyes are open. So it is with a
    folder that has a person's teeth, which lose by being painted over; one without is for the mouth as well.
    """
    from puppet.generate.mouth import MOUTH_FILE
    from puppet.generate.painter import MODELS, TextureNetworks

    engine, device = options.engine.engine, options.engine.device
    choice, folder = options.portrait.texture, options.portrait.texture_models
    has_teeth = folder is not None and (folder / MOUTH_FILE).is_file()
    if folder is not None and choice != "off" and (not has_teeth or any(folder.glob("texture_*.onnx"))):
        regions = ("eye",) if choice == "auto" and has_teeth else ("mouth", "eye")
        return TextureNetworks(engine=engine, device=device, folder=folder, regions=regions)
    if choice == "off" or (choice == "auto" and not any(MODELS.glob("texture_*.onnx"))):
        return None
    return TextureNetworks(engine=engine, device=device, regions=("eye",) if choice == "auto" else ("mouth", "eye"))


def open_folds(options: Options) -> FoldMaps | None:
    """What shades the skin of all portraits; None: motion alone.

    Raises:
        InputError: the packaged file is damaged.
    """
    from puppet.generate.folds import FoldMaps

    return None if options.portrait.texture == "off" else FoldMaps.load()


def open_mouth(options: Options) -> MouthPictures | None:
    """The teeth of one person, where the folder of `--texture-models` has them; None: the packaged ones.

    Raises:
        InputError: the file is damaged.
    """
    from puppet.generate.mouth import MOUTH_FILE, MouthPictures

    folder = options.portrait.texture_models
    return MouthPictures.load(folder / MOUTH_FILE) if folder is not None and (folder / MOUTH_FILE).is_file() else None


def open_signer(options: Options) -> Sign | None:
    """What puts credentials into finished recordings; None: they go without.

    Raises:
        InputError: `--sign-cert` and `--sign-key` can't be used.
    """
    if options.publish.credentials == "off":
        return None
    from puppet.credentials.signing import RecordingSigner

    return RecordingSigner(options.publish.sign_cert, options.publish.sign_key).sign


def open_tracker() -> FaceTracker:
    """The driver's face tracker."""
    from puppet.track import FaceTracker

    return FaceTracker()


def open_estimator(options: Options, stats: Stats) -> AuEstimator:
    """The AU regressor that watches the driver."""
    from puppet.estimate import AuEstimator

    estimator = AuEstimator(engine=options.engine.engine, device=options.engine.device)
    stats.engine = {name: value for name, value in vars(estimator.engine_info).items() if name != "metadata"}
    return estimator


def open_performer(options: Options, rest: np.ndarray, driver) -> Performer:
    """Retargeting from the options; calibration and smoothing for a driver who is seen rather than read."""
    retargeter = Retargeter(
        gains=parse_gains(options.retarget.gain),
        mutes=options.retarget.mute,
        preset=options.retarget.preset,
        head=options.retarget.head,
        mirror=options.retarget.mirror,
    )
    if not hasattr(driver, "frames"):
        return Performer(retargeter=retargeter, rest=rest)
    from puppet.calibrate import NeutralCalibrator
    from puppet.smooth import Smoother

    calibrator = NeutralCalibrator()
    if driver.is_live:
        calibrator.load(neutral_path(driver.name))
    return Performer(retargeter=retargeter, rest=rest, calibrator=calibrator, smoother=Smoother())


def neutral_path(camera: str) -> Path:
    """Where the neutral of the person before a camera is kept."""
    import platformdirs

    name = "".join(c if c.isalnum() else "-" for c in camera).strip("-").lower() or "camera"
    return platformdirs.user_config_path("puppet") / "neutral" / f"{name}.json"


@dataclass(frozen=True)
class Openers:
    """What opens the parts of a run."""

    driver: Callable[..., FrameDriver | TrackDriver] = open_driver
    tracker: Callable[[], FaceTracker] = open_tracker
    estimator: Callable[[Options, Stats], AuEstimator] = open_estimator
    gallery: Callable[[Options, Sequence[Path]], Gallery] = open_gallery
    sink: Callable[..., Sink] = open_sink


def save_neutral(performer: Performer, driver) -> None:
    if performer.calibrator is None or not driver.is_live or not performer.calibrator.is_warm:
        return
    try:
        performer.calibrator.save(neutral_path(driver.name))
    except OSError as error:
        log.warning("your neutral face could not be saved to %s: %s.", neutral_path(driver.name), error.strerror)
