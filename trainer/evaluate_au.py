"""`python -m trainer evaluate-au`: what the regressor reaches, one table and a JSON file.

Rules, written before results were looked at:
- Rig faces and animated photographs: Pearson correlation of estimated and true intensity over samples of held-out
  people, sides averaged, for OpenFace's 17 AUs. A wink is a shot whose lids differ by 3 or more; it is told apart if
  the estimate's more closed side is the true one.
- A person's neutral is given to the regressor where a table says so; in clips it is what `puppet.neutral` has found
  by then, as in live use.
- Real clips: Pearson correlation over the frames of one clip between the estimate (sides averaged, not smoothed) and
  the independent estimator's weight (sides averaged); the median over clips counts. A clip is left out for an AU where
  the judged signal barely moves (99th minus 1st percentile under 0.15) or has under 30 frames.
- Head pose: mean absolute difference to the rotation columns after each clip's median difference is taken off; the
  mean over clips counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import engines
from puppet import facs
from puppet.estimate import MODEL_PATH, with_lids
from puppet.neutral import NeutralFace
from puppet.pose import angles_from_rotation
from puppet.rig import LandmarkRig
from trainer.au import pearson
from trainer.au_noise import tracker_noise
from trainer.au_photos import load_photos
from trainer.au_rig import Samples, aligned_samples, rig_samples
from trainer.split import is_held_out
from trainer.tracking import Clip, clips

JUDGED: dict[str, tuple[tuple[str, ...], float]] = {
    "AU45": (("eyeBlinkLeft", "eyeBlinkRight"), 0.85),
    "AU12": (("mouthSmileLeft", "mouthSmileRight"), 0.90),
    "AU25": (("jawOpen",), 0.85),
    "AU26": (("jawOpen",), 0.85),
    "AU01": (("browInnerUp",), 0.75),
    "AU02": (("browOuterUpLeft", "browOuterUpRight"), 0.75),
}
"""AU -> (ARKit names whose mean is compared, least median correlation). No ARKit weight is lips part alone."""
UNBOUND: dict[str, tuple[str, ...]] = {
    "AU04": ("browDownLeft", "browDownRight"),
    "AU07": ("eyeSquintLeft", "eyeSquintRight"),
    "AU10": ("mouthUpperUpLeft", "mouthUpperUpRight"),
    "AU14": ("mouthDimpleLeft", "mouthDimpleRight"),
    "AU15": ("mouthFrownLeft", "mouthFrownRight"),
    "AU16": ("mouthLowerDownLeft", "mouthLowerDownRight"),
    "AU17": ("mouthShrugLower",),
    "AU18": ("mouthPucker",),
    "AU20": ("mouthStretchLeft", "mouthStretchRight"),
    "AU22": ("mouthFunnel",),
    "AU24": ("mouthPressLeft", "mouthPressRight"),
}
"""Reported, not required."""
SETS = ("rig", "rig_alone", "photos", "photos_alone")
MOVES, LEAST_FRAMES = 0.15, 30
POSE_LIMIT_DEG = 3.0
WINK = 3.0


@dataclass(frozen=True)
class EvaluateAuConfig:
    """Measure the AU regressor against rig faces, animated photographs and real clips."""

    faces_dir: Path = Path("../shared/faces")
    """Folder with manifest.csv, stills and clips."""
    cache_dir: Path = Path("data")
    """Tracked landmarks and generated data sets."""
    model: Path = MODEL_PATH
    """ONNX file to measure."""
    photos: tuple[Path, ...] = (Path("data/au_photos.npz"),)
    """Animated photographs made by `python -m trainer au-photos`; none measures without."""
    clips: Path = Path("val/clips")
    """Folder of clips with judged blendshapes, within --faces-dir."""
    output: Path = Path("outputs/evaluate-au.json")
    """Where the figures go."""
    samples: int = 8192
    """Rig faces."""
    dry_run: bool = False
    """Print what would be done and stop."""


def evaluate(config: EvaluateAuConfig) -> None:
    """Print the table and write the JSON.

    Raises:
        InputError: data are missing.
        EngineError: the model does not load.
    """
    if config.dry_run:
        print(f"would measure {config.model} on rig faces, photographs and {config.faces_dir / config.clips}")
        return
    rig, engine = LandmarkRig.load(), engines.load(config.model)
    noise = tracker_noise(config.faces_dir, config.cache_dir, rig)
    unseen = noise.of(np.array([is_held_out(person) for person in noise.persons]))
    faces = rig_samples(np.random.default_rng(2026), config.samples, rig, unseen)
    photos = load_photos(config.photos, rig)[1] if config.photos else None
    videos = clips(config.faces_dir / config.clips, config.cache_dir)
    results = {
        "model": str(config.model),
        "engine": str(engine.info),
        "rig": pearson(as_used(engine, faces), faces.intensities),
        "rig_alone": pearson(run(engine, faces.without_neutral())[0], faces.intensities),
        **({} if photos is None else _of_photos(engine, photos)),
        "gaze_pearson_rig": _gaze(engine, faces),
        **real_clips(engine, videos, rig),
    }
    engine.close()
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(results, indent=2))
    _print(results)
    print(f"wrote {config.output}")


def _of_photos(engine: engines.Engine, photos: Samples) -> dict[str, dict[str, float]]:
    used = as_used(engine, photos)
    return {
        "photos": pearson(used, photos.intensities),
        "photos_alone": pearson(run(engine, photos.without_neutral())[0], photos.intensities),
        "winks": winks(used, photos.intensities),
    }


def run(engine: engines.Engine, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Intensities limited to 0-5 and gaze, in chunks."""
    intensities, gaze = [], []
    for start in range(0, len(samples.landmarks_cm), 256):
        out = engine.run(samples.take(np.s_[start : start + 256]).inputs())
        intensities.append(np.clip(out["intensities"], 0, facs.MAX_INTENSITY))
        gaze.append(out["gaze_rad"])
    return np.concatenate(intensities), np.concatenate(gaze)


def as_used(engine: engines.Engine, samples: Samples) -> np.ndarray:
    """Intensities as the program takes them, the mean of the estimates without and with the neutral and lids measured
    against it where there is one, before the factors of `puppet.estimate`, which correlations hardly see."""
    return _taken(engine, samples, run(engine, samples.without_neutral())[0])


def _taken(engine: engines.Engine, samples: Samples, alone: np.ndarray) -> np.ndarray:
    """The same where the estimates without the neutral `(N, INTENSITY_COUNT)` are known."""
    read = (alone + run(engine, samples)[0]) / 2
    known = np.isfinite(samples.neutral_cm).all((1, 2))
    read[known] = with_lids(read[known], samples.landmarks_cm[known], samples.neutral_cm[known])
    return read


def winks(estimated: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Share of one-sided lid closures whose side is told right."""
    left, right = (facs.INDEX[f"AU45_{side}"] for side in "LR")
    difference = true[:, left] - true[:, right]
    chosen = np.abs(difference) >= WINK
    right_side = np.sign(estimated[chosen, left] - estimated[chosen, right]) == np.sign(difference[chosen])
    return {"count": int(chosen.sum()), "told_apart": float(right_side.mean()) if chosen.any() else float("nan")}


def _gaze(engine: engines.Engine, samples: Samples) -> dict[str, float]:
    _, gaze = run(engine, samples)
    return {
        name: float(np.corrcoef(gaze[:, i], samples.gaze_rad[:, i])[0, 1]) for i, name in enumerate(facs.GAZE_NAMES)
    }


def real_clips(engine: engines.Engine, videos: list[Clip], rig: LandmarkRig) -> dict:
    """Correlations with the judged weights and head pose error, per clip and over clips."""
    per_clip, pose = {}, {}
    names = {au: arkit for au, (arkit, _) in JUDGED.items()} | UNBOUND
    for video in videos:
        seen = np.isfinite(video.landmarks_px).all((1, 2)) & np.isfinite(video.judged["jawOpen"])
        if seen.sum() < LEAST_FRAMES:
            continue
        count = int(seen.sum())
        blank = np.zeros((count, facs.INTENSITY_COUNT), np.float32)
        samples = aligned_samples(video.landmarks_px[seen], blank, np.zeros((count, 2), np.float32), rig)
        intensities = streamed(engine, samples)
        per_clip[video.name] = {}
        for au, arkit in names.items():
            judged = np.mean([video.judged[name][seen] for name in arkit], 0)
            low, high = np.percentile(judged, [1, 99])
            if high - low >= MOVES:
                estimated = facs.unsided(intensities, au)
                moving = estimated.std() > 1e-6
                per_clip[video.name][au] = float(np.corrcoef(estimated, judged)[0, 1]) if moving else 0.0
        pose[video.name] = _pose_error(video, seen, samples.head_rad)
    median = {
        au: {
            "median": float(np.median([c[au] for c in per_clip.values() if au in c] or [np.nan])),
            "clips": sum(au in c for c in per_clip.values()),
        }
        for au in names
    }
    mean_pose = dict(zip(("yaw", "pitch", "roll"), np.mean(list(pose.values()), 0).tolist(), strict=True))
    return {"clips": median, "per_clip": per_clip, "pose_mae_deg": mean_pose, "pose_per_clip_deg": pose}


def streamed(engine: engines.Engine, samples: Samples) -> np.ndarray:
    """Intensities `(F, INTENSITY_COUNT)` as the program estimates them live: the neutral is found as frames come in."""
    alone, _ = run(engine, samples.without_neutral())
    neutral, with_neutral = NeutralFace(), np.full_like(samples.landmarks_cm, np.nan)
    for i, (landmarks, intensities, head) in enumerate(zip(samples.landmarks_cm, alone, samples.head_rad, strict=True)):
        if neutral.landmarks_cm is not None:
            with_neutral[i] = neutral.landmarks_cm
        neutral.observe(landmarks, intensities, head)
    return _taken(engine, replace(samples, neutral_cm=with_neutral), alone)


def _pose_error(video: Clip, seen: np.ndarray, head_rad: np.ndarray) -> list[float]:
    columns = np.stack([video.judged[f"rotation_{r}{c}"][seen] for r in range(3) for c in range(3)], -1)
    u, _, vt = np.linalg.svd(columns.reshape(-1, 3, 3))  # two decimals are no rotation yet
    judged = np.degrees([angles_from_rotation(r) for r in u @ vt])
    difference = np.degrees(head_rad) - judged
    return np.abs(difference - np.median(difference, 0)).mean(0).tolist()


def _print(results: dict) -> None:
    table = Table(title=f"AU regressor: {results['engine']}")
    for column in (
        "AU",
        "rig",
        "rig, no neutral",
        "photos",
        "photos, no neutral",
        "real clips (median)",
        "clips",
        "needed on clips",
    ):
        table.add_column(column)
    for au in dict.fromkeys((*facs.OPENFACE_AUS, *results["clips"])):
        clip = results["clips"].get(au)
        table.add_row(
            au,
            *(f"{results[k][au]:.3f}" if au in results.get(k, {}) else "" for k in SETS),
            f"{clip['median']:.3f}" if clip else "",
            str(clip["clips"]) if clip else "",
            f"{JUDGED[au][1]:.2f}" if au in JUDGED else "",
        )
    for name, function in (("mean", np.mean), ("least", np.min)):
        table.add_row(name, *(f"{function(list(results[k].values())):.3f}" if k in results else "" for k in SETS))
    console = Console()
    console.print(table)
    pose = ", ".join(f"{axis} {value:.2f}" for axis, value in results["pose_mae_deg"].items())
    console.print(
        f"needed: rig faces 0.95 mean, 0.85 least; photos 0.85 mean, 0.60 least; pose {POSE_LIMIT_DEG} degrees"
    )
    console.print(f"head pose, mean absolute error in degrees: {pose}")
    if "winks" in results:
        console.print(
            f"winks told apart: {results['winks']['told_apart']:.3f} of {results['winks']['count']} (needed 0.98)"
        )
    console.print(f"gaze on rig faces: {results['gaze_pearson_rig']}")
