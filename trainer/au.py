"""`python -m trainer au`: train the AU regressor and export it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import track as progress

from puppet import facs
from puppet.errors import ConfigError
from puppet.estimate import MODEL_PATH
from puppet.landmarks import TRACKED_COUNT
from puppet.rig import LandmarkRig
from trainer.au_model_params import RegressorParams
from trainer.au_noise import TrackerNoise, smooth_errors, tracker_noise
from trainer.au_photos import load_photos
from trainer.au_rig import FIELDS, Samples, rig_samples
from trainer.au_sampling import mirrored_columns
from trainer.compression import Compression
from trainer.openface_labels import labelled_videos
from trainer.split import is_held_out

log = logging.getLogger(__name__)

_CHUNK = 8192


@dataclass(frozen=True)
class AuConfig:
    """Train the AU regressor on rig faces, animated photographs and, optionally, OpenFace labels."""

    faces_dir: Path = Path("../shared/faces")
    """Folder with manifest.csv and the training stills."""
    cache_dir: Path = Path("data")
    """Tracked landmarks and generated data sets."""
    run_dir: Path | None = None
    """Run folder; default runs/au-<time>."""
    output: Path = MODEL_PATH
    """ONNX file that is written at the end."""
    photos: tuple[Path, ...] = (Path("data/au_photos.npz"),)
    """Animated photographs made by `python -m trainer au-photos`; none trains without."""
    labels: Path | None = None
    """Folder of videos with OpenFace CSVs beside them, an additional source."""
    rig_share: float = 0.5
    """Share of rig faces in a batch; the rest are photographs (and labelled videos)."""
    steps: int = 12000
    """Optimiser steps."""
    batch: int = 512
    """Samples per step."""
    pool: int = 98304
    """Rig faces kept in memory."""
    held_out: int = 4096
    """Rig faces of held-out people that evaluations use."""
    refresh: int = 8192
    """Rig faces made anew at every evaluation."""
    learning_rate: float = 1e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-4
    """AdamW's."""
    blend: float = 0.4
    """Share of photographs blended with another shot."""
    swap: float = 0.5
    """Share of photographs put on another person's resting face."""
    photo_jitter: float = 0.3
    """Strength of tracker jitter added to photographs, which have their own."""
    smooth_error_cm: float = 0.06
    """Largest size of random smooth displacements added to every sample."""
    neutral_share: float = 0.65
    """Share of samples that come with the person's neutral; the rest teach single faces."""
    evaluate_every: int = 1000
    """Steps between evaluations and checkpoints."""
    seed: int = 0
    """Seeds data and weights."""
    resume: bool = False
    """Go on from the checkpoint in --run-dir."""
    dry_run: bool = False
    """Print what would be done and stop."""
    network: RegressorParams = field(default_factory=RegressorParams)


def train(config: AuConfig) -> None:
    """Train, evaluate on held-out people, export.

    Raises:
        ConfigError: a share or a folder that can't be used.
        InputError: data are missing.
    """
    if not 0 <= config.rig_share <= 1:
        raise ConfigError(f"--rig-share {config.rig_share}: expected 0 to 1.")
    if config.resume and config.run_dir is None:
        raise ConfigError("--resume needs --run-dir: expected the folder of the run to go on with.")
    if config.dry_run:
        print(json.dumps(dataclasses.asdict(config), indent=2, default=str))
        return
    run_dir = config.run_dir or Path("runs") / time.strftime("au-%Y%m%d-%H%M%S")
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=2, default=str))
    data = AuData.prepare(config)
    from trainer.au_loop import fit_regressor  # torch is imported only to train

    with _logged(run_dir / "log.txt"):
        fit_regressor(config, data, run_dir)


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Messages of the trainer go to a file and the terminal."""
    root = logging.getLogger("trainer")
    handlers = [logging.FileHandler(path), logging.StreamHandler()]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


@dataclass
class AuData:
    """Training pools, refreshed as training goes, and fixed held-out sets; all compressed."""

    rig: LandmarkRig
    noise: TrackerNoise
    compression: Compression
    jitter: np.ndarray  # (M, K) float32
    smooth: np.ndarray  # (4096, K) float32, of displacements of 1 cm
    faces: Samples
    photos: Samples | None
    held_out: dict[str, Samples]
    rng: np.random.Generator

    @classmethod
    def prepare(cls, config: AuConfig) -> AuData:
        rng, rig = np.random.default_rng(config.seed), LandmarkRig.load()
        noise = tracker_noise(config.faces_dir, config.cache_dir, rig)
        unseen = np.array([is_held_out(person) for person in noise.persons])
        held_out = {"rig": rig_samples(np.random.default_rng(12345), config.held_out, rig, noise.of(unseen))}
        noise, photos = noise.of(~unseen), None
        if config.photos:
            photos, held_out["photos"] = load_photos(config.photos, rig)
        if config.labels is not None:
            videos = labelled_videos(config.labels, config.cache_dir, rig)
            photos = videos if photos is None else Samples.concatenate([photos, videos])
        chunk = min(_CHUNK, config.pool)
        first = rig_samples(rng, chunk, rig, noise)
        seen = first.landmarks_cm if photos is None else np.concatenate([first.landmarks_cm, photos.landmarks_cm])
        seen = seen[rng.permutation(len(seen))]
        compression = Compression.fit(seen, noise.jitter_cm, noise.mirror, config.network.components)
        chunks = [compression.samples(first)]
        for _ in progress(range(config.pool // chunk - 1), description="making rig faces"):
            chunks.append(compression.samples(rig_samples(rng, chunk, rig, noise)))
        return cls(
            rig=rig,
            noise=noise,
            compression=compression,
            jitter=compression.errors(noise.jitter_cm),
            smooth=compression.errors(smooth_errors(rng, rig.mean_cm[:TRACKED_COUNT], 4096)),
            faces=Samples.concatenate(chunks),
            photos=None if photos is None else compression.samples(photos),
            held_out={name: compression.samples(samples) for name, samples in held_out.items()},
            rng=rng,
        )

    def refresh(self, count: int) -> None:
        """Replace `count` rig faces by new ones."""
        if count == 0:
            return
        new = self.compression.samples(rig_samples(self.rng, count, self.rig, self.noise))
        places = self.rng.choice(len(self.faces.intensities), count, replace=False)
        for name in FIELDS:
            getattr(self.faces, name)[places] = getattr(new, name)

    def batch(self, size: int, config: AuConfig) -> Samples:
        """Random samples, half of them mirrored, photographs with fresh jitter, some without their neutral."""
        count = size if self.photos is None else round(size * config.rig_share)
        parts = [self.faces.take(self.rng.integers(len(self.faces.intensities), size=count))]
        if count < size and self.photos is not None:
            parts.append(self._photos(size - count, config))
        samples = Samples.concatenate(parts)
        flip = self.rng.random(size) < 0.5
        flipped = mirror(samples.take(flip), self.compression)
        for name in FIELDS:
            getattr(samples, name)[flip] = getattr(flipped, name)
        strength = self.rng.uniform(0, config.smooth_error_cm, (size, 1)).astype(np.float32)
        samples.landmarks_cm[:] += strength * self.smooth[self.rng.integers(len(self.smooth), size=size)]
        samples.neutral_cm[self.rng.random(size) >= config.neutral_share] = np.nan
        return samples

    def _photos(self, count: int, config: AuConfig) -> Samples:
        """Photographs, some blended with another shot and some with another person's face below the action.

        The tracker's response to actions is nearly the same for all people and nearly linear, and there are many more
        people and mixtures of actions than photographs.
        """
        rng, photos = self.rng, self.photos
        chosen, other = (photos.take(rng.integers(len(photos.intensities), size=count)) for _ in range(2))
        known = (np.isfinite(chosen.neutral_cm) & np.isfinite(other.neutral_cm)).all(1, keepdims=True)
        action = np.where(known, chosen.landmarks_cm - chosen.neutral_cm, 0)
        other_action = np.where(known, other.landmarks_cm - other.neutral_cm, 0)
        share = np.where(known & (rng.random((count, 1)) < config.blend), rng.beta(0.5, 0.5, (count, 1)), 1.0)
        share = share.astype(np.float32)
        swap = known & (rng.random((count, 1)) < config.swap)
        rest = np.where(swap, other.neutral_cm, chosen.neutral_cm)
        landmarks = np.where(known, rest + action * share + other_action * (1 - share), chosen.landmarks_cm)
        landmarks += config.photo_jitter * self.jitter[rng.integers(len(self.jitter), size=count)]

        def blended(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.where(share < 1, a * share + b * (1 - share), a)

        return Samples(
            landmarks_cm=landmarks,
            neutral_cm=rest,
            head_rad=blended(chosen.head_rad, other.head_rad),
            intensities=blended(chosen.intensities, other.intensities),
            gaze_rad=blended(chosen.gaze_rad, other.gaze_rad),
        )


def mirror(samples: Samples, compression: Compression) -> Samples:
    """What the mirror shows, of compressed samples: sides swapped, yaw, roll and sideways gaze negated."""
    return Samples(
        samples.landmarks_cm @ compression.mirror,
        samples.neutral_cm @ compression.mirror,
        samples.head_rad * np.array([-1, 1, -1], np.float32),
        samples.intensities[:, mirrored_columns()],
        samples.gaze_rad * np.array([-1, 1], np.float32),
    )


def write_curves(run_dir: Path, rows: list[dict[str, float]]) -> None:
    """`metrics.csv` and `curves.png` of a run so far."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with open(run_dir / "metrics.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, names in zip(axes, (("loss",), [n for n in rows[0] if "pearson" in n]), strict=True):
        for name in names:
            axis.plot([r["step"] for r in rows], [r[name] for r in rows], label=name)
        axis.set_xlabel("step")
        axis.legend()
    figure.tight_layout()
    figure.savefig(run_dir / "curves.png", dpi=90)
    plt.close(figure)


def pearson(estimated: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Pearson correlation per OpenFace AU; `(N, INTENSITY_COUNT)` each, sides averaged, estimates limited to 0-5."""
    estimated = np.clip(estimated, 0, facs.MAX_INTENSITY)
    scores = {}
    for au in facs.OPENFACE_AUS:
        a, b = facs.unsided(estimated, au), facs.unsided(true, au)
        scores[au] = float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else 0.0
    return scores
