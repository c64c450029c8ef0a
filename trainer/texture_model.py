"""Texture networks: a portrait's features once, then colour and attention for every frame, and the critic.

After GANimation (Pumarola et al. 2018): the output is `A * C + (1 - A) * moved`. Deviations: crops of mouth and eyes
instead of the face, the colour is learnt as a difference to the moved picture, and actions enter by feature-wise
modulation (FiLM, Perez et al. 2018) instead of constant planes. No normalisation layers: they fail in half precision.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puppet.easing import smooth_step
from puppet.generate.region import ACTION_COUNT, ACTION_NAMES, RegionShape
from trainer.texture_params import TextureParams

_FLOOR = 0.08  # attention under this is none once trained: what moves well is left alone
_FADE_PX = 8  # attention falls to zero over this at the crop's border
_ATTENTION_INSIDE, _ATTENTION_OUTSIDE = 2.0, -3.0  # logits that training starts from
_CLOSE_BY_PX = 2  # in a crop: half of a gap between two rows of teeth
_REST_PLANES, _MOVED_PLANES = 4, 5


class Painted(NamedTuple):
    """What a network says of a batch: `colour` `(N, 3, h, w)` -1 to 1 about, `attention` `(N, 1, h, w)` 0-1, and their
    mix with the moved picture."""

    colour: Tensor
    attention: Tensor
    picture: Tensor


class Refine(nn.Module):
    """A residual convolution that actions and portrait may scale and shift."""

    def __init__(self, channels: int, condition: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(condition, 2 * channels) if condition else None
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = self.first(x)
        if self.film is not None:
            scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
            y = y * (1 + scale) + shift
        return x + self.second(F.leaky_relu(y, 0.1))


class PortraitEncoder(nn.Module):
    """What a network remembers of one portrait: its part of the stem and of the deep planes, and a few numbers.

    Both parts are added there: what the portrait alone decides is worked out once.
    """

    def __init__(self, params: TextureParams) -> None:
        super().__init__()
        self.fold = params.fold
        self.near = nn.Conv2d(_REST_PLANES * self.fold**2, params.rest_near, 3, padding=1)
        self.middle = nn.Conv2d(params.rest_near, params.middle, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(params.middle, params.deep, 3, stride=2, padding=1)
        self.style = nn.Linear(params.deep, params.style)
        self.to_stem = nn.Conv2d(params.rest_near, params.near, 3, padding=1, bias=False)
        self.to_join = nn.Conv2d(params.deep, params.deep, 1, bias=False)

    def forward(self, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`rest` `(N, 4, h, w)`: the portrait's colours -1 to 1 and its opening."""
        near = F.leaky_relu(self.near(F.pixel_unshuffle(rest, self.fold)), 0.1)
        deep = F.leaky_relu(self.deep(F.leaky_relu(self.middle(near), 0.1)), 0.1)
        return self.to_stem(near), self.to_join(deep), self.style(deep.mean((2, 3)))


class TexturePainter(nn.Module):
    """One region's network: a small U-Net over the moved crop."""

    def __init__(self, params: TextureParams, shape: RegionShape) -> None:
        super().__init__()
        condition = ACTION_COUNT + params.style
        self.fold = params.fold
        self.stem = nn.Conv2d(_MOVED_PLANES * self.fold**2, params.near, 3, padding=1)
        self.to_middle = nn.Conv2d(params.near, params.middle, 3, stride=2, padding=1)
        self.middle = Refine(params.middle, condition)
        self.to_deep = nn.Conv2d(params.middle, params.deep, 3, stride=2, padding=1)
        self.join = nn.Conv2d(params.deep, params.deep, 1)
        self.deep = nn.ModuleList(Refine(params.deep, condition) for _ in range(2))
        self.from_deep = nn.Conv2d(params.deep + params.middle, params.middle, params.join, padding=params.join // 2)
        self.up_middle = Refine(params.middle, condition)
        self.from_middle = nn.Conv2d(params.middle + params.near, params.near, params.join, padding=params.join // 2)
        self.up_near = Refine(params.near)
        self.head = nn.Conv2d(params.near, 4 * self.fold**2, 3, padding=1)
        nn.init.zeros_(self.head.bias)
        self.head.weight.data *= 0.1
        self.register_buffer("fade", _border_fade(shape))
        limits = params.of("")  # what is not set by now limits nothing
        self.relight, self.lighter, self.darker = limits.relight, limits.lighter, limits.darker
        self.tint, self.skin_hue = limits.tint, limits.skin_hue

    def forward(self, moved: Tensor, actions: Tensor, near: Tensor, deep: Tensor, style: Tensor) -> Painted:
        """`moved` `(N, 5, h, w)`: colours -1 to 1, opening, depth in it; the rest from `PortraitEncoder`."""
        condition = torch.cat([actions, style], 1)
        at_near = F.leaky_relu(self.stem(F.pixel_unshuffle(moved, self.fold)) + near, 0.1)
        at_middle = self.middle(F.leaky_relu(self.to_middle(at_near), 0.1), condition)
        x = F.leaky_relu(self.join(F.leaky_relu(self.to_deep(at_middle), 0.1)) + deep, 0.1)
        for block in self.deep:
            x = block(x, condition)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.up_middle(F.leaky_relu(self.from_deep(torch.cat([x, at_middle], 1)), 0.1), condition)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.up_near(F.leaky_relu(self.from_middle(torch.cat([x, at_near], 1)), 0.1))
        out = F.pixel_shuffle(self.head(x), self.fold)
        opening = moved[:, 3:4]
        start = _ATTENTION_OUTSIDE + (_ATTENTION_INSIDE - _ATTENTION_OUTSIDE) * opening
        attention = torch.sigmoid(out[:, 3:] + start) * self.fade
        change = out[:, :3]
        drawn = moved[:, :3] + 1  # black is 0
        if self.relight:
            # One factor for all three colours.
            factor = self.relight * torch.tanh(change.mean(1, keepdim=True))
            change = change + (factor * drawn - change) * opening
        if self.tint != 1:
            grey = change.mean(1, keepdim=True)
            change = grey + (change - grey) * (1 - (1 - self.tint) * opening)
        if self.skin_hue:
            as_skin = self._as_skin(drawn, opening, change)
            change = change + (as_skin - change) * self.skin_hue * (1 - opening)
        if self.lighter:
            across = F.max_pool2d(drawn * opening, (1, 2 * _CLOSE_BY_PX + 1), 1, (0, _CLOSE_BY_PX))
            close_by = F.max_pool2d(across, (2 * _CLOSE_BY_PX + 1, 1), 1, (_CLOSE_BY_PX, 0))
            change = change + (torch.minimum(change, self.lighter * close_by - drawn) - change) * opening
        if self.darker:
            change = change + (torch.maximum(change, (self.darker - 1) * drawn) - change) * opening
        return Painted(moved[:, :3] + change, attention, moved[:, :3] + attention * change)

    @staticmethod
    def _as_skin(drawn: Tensor, opening: Tensor, change: Tensor) -> Tensor:
        """The change that makes what was `drawn` (colours 0 to 2) as bright as `change` does, in the skin's colours.

        Those go from black to the crop's mean skin and from there on towards white.
        """
        weight = 1 - opening
        skin = (drawn * weight).mean((2, 3), keepdim=True) / weight.mean((2, 3), keepdim=True).clamp(min=1e-3)
        level = skin.mean(1, keepdim=True).clamp(min=1e-2)
        wanted = (drawn + change).mean(1, keepdim=True)
        return torch.minimum(wanted, level) * (skin / level) + F.relu(wanted - level) - drawn


class RegionNetwork(nn.Module):
    """Encoder and painter of one region."""

    def __init__(self, params: TextureParams, shape: RegionShape) -> None:
        super().__init__()
        self.encoder = PortraitEncoder(params)
        self.painter = TexturePainter(params, shape)

    def forward(self, moved: Tensor, rest: Tensor, actions: Tensor) -> Painted:
        return self.painter(moved, actions, *self.encoder(rest))


class Critic(nn.Module):
    """GANimation's critic on crops: how real a crop looks, patch by patch, and which actions it shows."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        widths = [channels, 2 * channels, 4 * channels, 4 * channels]
        layers, previous = [], 3
        for width in widths:
            layers += [nn.Conv2d(previous, width, 4, stride=2, padding=1), nn.LeakyReLU(0.1)]
            previous = width
        self.body = nn.Sequential(*layers)
        self.realness = nn.Conv2d(previous, 1, 3, padding=1)
        self.actions = nn.Linear(previous, ACTION_COUNT)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Realness `(N, 1, h/16, w/16)` and actions `(N, ACTION_COUNT)` of crops `(N, 3, h, w)` -1 to 1."""
        features = self.body(picture)
        return self.realness(features), self.actions(features.mean((2, 3)))


def gradient_penalty(critic: Critic, real: Tensor, painted: Tensor, rng: torch.Generator) -> Tensor:
    """Mean squared distance of the critic's slope from 1, between real and painted (Gulrajani et al. 2017)."""
    share = torch.rand(len(real), 1, 1, 1, generator=rng).to(real)
    between = (share * real + (1 - share) * painted).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between)[0].sum(), between, create_graph=True)
    return ((slope.flatten(1).norm(2, 1) - 1) ** 2).mean()


def _border_fade(shape: RegionShape) -> Tensor:
    ramps = []
    for n in shape.seen_size:
        ramps.append(smooth_step(np.minimum(np.arange(n), np.arange(n)[::-1]), 0, _FADE_PX))
    return torch.from_numpy(np.outer(*ramps).astype(np.float32))[None, None]


class _Exported(nn.Module):
    """The painter as it runs: `change` is what is added at full attention, in grey levels."""

    def __init__(self, painter: TexturePainter) -> None:
        super().__init__()
        self.painter = painter

    def forward(
        self, moved: Tensor, actions: Tensor, near: Tensor, deep: Tensor, style: Tensor
    ) -> tuple[Tensor, Tensor]:
        painted = self.painter(moved, actions, near, deep, style)
        attention = F.relu(painted.attention - _FLOOR) / (1 - _FLOOR)
        return (painted.colour - moved[:, :3]) * 127.5, attention


def export_onnx(network: RegionNetwork, shape: RegionShape, batch: int, stem: Path, metadata: dict[str, str]) -> None:
    """Write `<stem>_portrait.onnx` (`rest` -> `near`, `deep`, `style`) and `<stem>_paint.onnx` (`moved`, `actions` and
    those -> `change`, `attention`), for any number of crops at a time, weights stored in half precision. `batch` is
    how many the program has."""
    from trainer.onnx_half import store_halves

    network = network.eval()
    rest = torch.zeros(batch, _REST_PLANES, *shape.seen_size)
    moved = torch.zeros(batch, _MOVED_PLANES, *shape.seen_size)
    actions = torch.zeros(batch, ACTION_COUNT)
    features = network.encoder(rest)
    stem.parent.mkdir(parents=True, exist_ok=True)
    names = ("near", "deep", "style")
    for module, arguments, inputs, outputs, part in (
        (network.encoder, (rest,), ("rest",), names, "portrait"),
        (
            _Exported(network.painter),
            (moved, actions, *features),
            ("moved", "actions", *names),
            ("change", "attention"),
            "paint",
        ),
    ):
        path = stem.parent / f"{stem.name}_{part}.onnx"
        with warnings.catch_warnings():
            # The newer exporter needs another package and writes the same graph.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                module.eval(),
                arguments,
                path,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: {0: "n"} for name in (*inputs, *outputs)},
                dynamo=False,
                opset_version=17,
            )
        store_halves(path, metadata | {"actions": json.dumps(ACTION_NAMES)})
