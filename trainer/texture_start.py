"""Where training starts from: a run's checkpoint, or networks as they are packaged."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from puppet.errors import InputError
from trainer.texture_params import FREE, TextureParams

_HALF = "_half"
_FREEDOM = ("relight", "lighter", "darker", "tint", "skin_hue")  # settings that no weight's size shows
_CONSTANT = ".fade"  # how a crop's border fades is no weight


def read_networks(folder: Path, region: str) -> tuple[TextureParams, dict[str, np.ndarray]]:
    """Sizes and weights (named as in `RegionNetwork`) of `texture_<region>_portrait.onnx` and `..._paint.onnx`.

    Raises:
        InputError: a file is missing, damaged or of another kind.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    weights: dict[str, np.ndarray] = {}
    freedom: dict[str, float] = {}
    for part, prefix in (("portrait", "encoder."), ("paint", "")):
        path = folder / f"texture_{region}_{part}.onnx"
        try:
            model = onnx.load(path)
        except (OSError, DecodeError, ValueError) as exc:
            raise InputError(
                f"{path} can't be read ({exc}): expected a texture network made by `python -m trainer generator`. "
                "Give their folder with --start or --teacher."
            ) from exc
        for tensor in model.graph.initializer:
            name = prefix + tensor.name.removesuffix(_HALF)
            if name.startswith(("encoder.", "painter.")) and not name.endswith(_CONSTANT):
                weights[name] = numpy_helper.to_array(tensor).astype(np.float32)
        about = {entry.key: entry.value for entry in model.metadata_props}
        network = json.loads(about.get("config", "{}")).get("network", {})
        freedom = {name: network[name] for name in _FREEDOM if name in network}
    try:
        params = TextureParams(
            fold=math.isqrt(weights["painter.head.weight"].shape[0] // 4),  # three colours and attention
            join=weights["painter.from_deep.weight"].shape[-1],
            near=weights["painter.stem.weight"].shape[0],
            middle=weights["painter.to_middle.weight"].shape[0],
            deep=weights["painter.to_deep.weight"].shape[0],
            style=weights["encoder.style.weight"].shape[0],
            rest_near=weights["encoder.near.weight"].shape[0],
            **(FREE | freedom),
        )
    except KeyError as exc:
        raise InputError(
            f"{folder} holds no texture network of the {region} ({exc} is missing): expected files made by "
            "`python -m trainer generator`. Give their folder with --start or --teacher."
        ) from exc
    return params, weights


def sizes(params: TextureParams) -> dict[str, int]:
    """What must agree between weights and a network; how freely it paints may differ."""
    return {name: value for name, value in dataclasses.asdict(params).items() if name not in _FREEDOM}
