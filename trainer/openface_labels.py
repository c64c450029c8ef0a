"""Another label source: videos with OpenFace CSV files of the same name beside them.

OpenFace labels 17 actions without sides; both sides get its value and every other action is unknown (NaN), which the
loss leaves out. A CSV written by this program has all columns, and all are used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from puppet import facs
from puppet.errors import InputError
from puppet.openface import read_track
from puppet.rig import LandmarkRig
from trainer.au_rig import Samples, aligned_samples
from trainer.tracking import track_video

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
LEAST_CONFIDENCE = 0.8


def labelled_videos(folder: Path, cache_dir: Path, rig: LandmarkRig) -> Samples:
    """Samples of all videos in a folder that have a CSV.

    Raises:
        InputError: no such pair, a CSV that can't be read, or one with more rows than its video has frames.
    """
    pairs = [(p, p.with_suffix(".csv")) for p in sorted(folder.glob("*")) if p.suffix.lower() in VIDEO_SUFFIXES]
    pairs = [(video, labels) for video, labels in pairs if labels.is_file()]
    if not pairs:
        raise InputError(
            f"no labelled video in {folder}: expected NAME.mp4 with OpenFace's NAME.csv beside it. Check --labels."
        )
    return Samples.concatenate([_one(video, labels, cache_dir, rig) for video, labels in pairs])


def _one(video: Path, labels: Path, cache_dir: Path, rig: LandmarkRig) -> Samples:
    landmarks, track = track_video(video, cache_dir), read_track(labels)
    if len(track.control) > len(landmarks):
        raise InputError(
            f"{labels} has {len(track.control)} rows but {video.name} {len(landmarks)} frames: expected a row a frame. "
            "Run OpenFace on this very file."
        )
    landmarks = landmarks[: len(track.control)]
    usable = np.isfinite(landmarks).all((1, 2)) & track.success & (track.confidence >= LEAST_CONFIDENCE)
    control = track.control[usable]
    intensities = control[:, : facs.INTENSITY_COUNT].astype(np.float32)
    gaze = control[:, [facs.INDEX[name] for name in facs.GAZE_NAMES]].astype(np.float32)
    if not _has_all_columns(labels):
        known = [i for i, c in enumerate(facs.COLUMNS[: facs.INTENSITY_COUNT]) if c.au in facs.OPENFACE_AUS]
        intensities[:, [i for i in range(facs.INTENSITY_COUNT) if i not in known]] = np.nan
        gaze[:] = np.nan
    return aligned_samples(landmarks[usable], intensities, gaze, rig)


def _has_all_columns(path: Path) -> bool:
    with open(path, encoding="utf-8") as file:
        header = {name.strip() for name in file.readline().split(",")}
    return set(facs.NAMES) <= header
