"""Shards for tests: mouths whose answer is the moved picture with a lighter opening."""

import numpy as np

from puppet.generate.region import ACTION_COUNT, FACE_SHAPE, MOUTH_SHAPE
from trainer.texture_shards import Example, WayBack

SMALL = dict(near=8, middle=8, deep=8, style=4, rest_near=4)
FACE_OPENINGS = {"eyes": (slice(36, 44), slice(30, 98)), "mouth": (slice(84, 104), slice(46, 82))}
INSIDE = (slice(40, 56), slice(40, 90))


def mouth_example(person="anna", *, frames=1, seed=0, light=100, back=False):
    rng = np.random.default_rng(seed)
    moved = rng.integers(60, 120, (frames, MOUTH_SHAPE.height, MOUTH_SHAPE.width, 5), np.uint8)
    moved[..., 3:] = 0
    moved[:, *INSIDE, 3] = 255
    rest = np.concatenate([moved[..., :3], np.zeros_like(moved[..., :1])], -1)
    answer = moved[..., :3].copy()
    answer[:, *INSIDE] += light
    actions = rng.random((frames, ACTION_COUNT), np.float32)
    return Example("mouth", person, moved, rest, answer, actions, way_back(moved[0]) if back else None)


def face_example(*, seed=0):
    """A face that opens eyes and mouth; the answer is the moved picture."""
    rng = np.random.default_rng(seed)
    moved = rng.integers(60, 120, (1, FACE_SHAPE.height, FACE_SHAPE.width, 5), np.uint8)
    moved[..., 3:] = 0
    for opening in FACE_OPENINGS.values():
        moved[:, *opening, 3:] = 255
    rest = np.concatenate([moved[..., :3], np.zeros_like(moved[..., :1])], -1)
    return Example("face", "anna", moved, rest, moved[..., :3].copy(), rng.random((1, ACTION_COUNT), np.float32))


def way_back(moved):
    """Everything goes back to where it came from, and nothing is open."""
    rows, columns = np.indices(moved.shape[:2])
    closed = moved.copy()
    closed[..., 3:] = 0
    return WayBack(
        closed,
        np.dstack([columns, rows]).astype(np.float16),
        np.eye(2, 3, dtype=np.float32),
        np.zeros(moved.shape[:2], np.uint8),
        np.zeros(ACTION_COUNT, np.float32),
    )


def config_for(folder, **changes):
    from pathlib import Path

    from trainer.generator import GeneratorConfig, LossWeights
    from trainer.texture_params import TextureParams

    settings = dict(
        data=Path(folder),
        run_dir=Path(folder) / "run",
        network=TextureParams(**SMALL),
        steps=4,
        batch=4,
        sample_every=2,
        squeezenet=None,
        accelerator="cpu",
    )
    loss = changes.pop("loss", LossWeights())
    return GeneratorConfig(**{**settings, **changes}, loss=loss)
