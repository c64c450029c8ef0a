"""What a texture network is taught by.

After GANimation (Pumarola et al. 2018, section 4.2): a critic that tells real crops from painted ones and reads their
actions (WGAN-GP, Gulrajani et al. 2017), attention that is small and smooth, and a cycle: a picture that is moved to
sampled actions and back should be itself. Deviations: crops of mouth and eyes; the way there and back is the motion
step's, the network paints what it leaves; and most examples are pairs with a known answer, on which the picture itself
is compared, foremost where motion uncovered something, and from one frame to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.texture_data import LoopBatch
from trainer.texture_model import Painted, gradient_penalty

if TYPE_CHECKING:
    from trainer.generator import LossWeights
    from trainer.squeezenet import SqueezeFeatures

_ELSEWHERE = {"mouth": 0.0, "eye": 0.0, "face": 0.15}
"""How far the rest of a crop counts as uncovered: beside the nose and between the brows a face folds."""
_ROUND_OPENING = {"mouth": (7, 5), "eye": (15, 9), "face": (9, 5)}
"""Crop pixels (odd) by which what motion uncovers is widened and softened: the skin of a lid unfolds above the eye."""


class Loop(NamedTuple):
    """`LoopBatch` as tensors."""

    moved: Tensor
    rest: Tensor
    answer: Tensor
    actions: Tensor
    back_moved: Tensor
    shown: Tensor
    rest_shown: Tensor
    rest_mask: Tensor
    back_actions: Tensor

    @classmethod
    def from_batch(cls, batch: LoopBatch, device: torch.device) -> Loop:
        return cls(*(torch.from_numpy(np.ascontiguousarray(getattr(batch, n))).to(device) for n in cls._fields))


def paired_terms(
    weight: LossWeights,
    painted: Painted,
    answer: Tensor,
    pairs: np.ndarray,
    *,
    uncovered: Tensor,
    features: SqueezeFeatures | None = None,
    share: float = 1.0,
) -> dict[str, Tensor]:
    """Weighted terms of examples with an answer; the perceptual one on a `share` of the batch.

    `pairs` `(P, 2)` are places of neighbouring frames, `uncovered` is `uncovered_by_motion`.
    """
    terms = {
        "reconstruction": weight.reconstruction * error(painted.picture, answer, uncovered, weight.uncovered),
        "colour": weight.colour * ((painted.colour - answer).abs() * uncovered).sum() / (3 * uncovered.sum() + 1),
        **attention_terms(weight, painted.attention, uncovered),
    }
    if features is not None:
        some = slice(0, max(1, round(len(answer) * share)))
        distance = features.distance(painted.picture[some], answer[some], 0.2 + uncovered[some])
        terms["perceptual"] = weight.perceptual * distance.mean()
    if len(pairs):
        terms["temporal"] = weight.temporal * unlike_change(painted.picture, answer, pairs)
    return terms


def teacher_terms(weight: LossWeights, painted: Painted, shown: Painted, uncovered: Tensor) -> dict[str, Tensor]:
    """Weighted terms of a network that is to paint like another one, which has `shown` how."""
    return {"teacher": weight.teacher * error(painted.picture, shown.picture, uncovered, weight.uncovered)}


def cycle_terms(weight: LossWeights, network: nn.Module, loop: Loop, region: str) -> tuple[dict[str, Tensor], Painted]:
    """Weighted terms of unpaired pictures that go to sampled actions and back, and how they look in between."""
    there = network(loop.moved, loop.rest, loop.actions)
    moved, rest = way_back(there.picture, loop)
    back = network(moved, rest, loop.back_actions)
    uncovered_there = uncovered_by_motion(loop.moved, loop.rest, region)
    uncovered_back = uncovered_by_motion(moved, rest, region)
    both = [attention_terms(weight, p.attention, u) for p, u in ((there, uncovered_there), (back, uncovered_back))]
    terms = {f"cycle_{name}": (both[0][name] + both[1][name]) / 2 for name in both[0]}
    terms["cycle"] = weight.cycle * error(back.picture, loop.answer, uncovered_back, weight.uncovered)
    return terms, there


def way_back(picture: Tensor, loop: Loop) -> tuple[Tensor, Tensor]:
    """What a network is given on the way back, `moved` `(N, 5, h, w)` and `rest` `(N, 4, h, w)`, when it painted
    `picture` `(N, 3, h, w)` on the way there; gradients pass through."""
    carried = _at(picture, loop.shown)
    opening = loop.back_moved[:, 3:4]
    colours = opening * loop.back_moved[:, :3] + (1 - opening) * carried
    height, width = picture.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=picture.device), torch.arange(width, device=picture.device), indexing="ij"
    )
    here = torch.stack([columns, rows, torch.ones_like(rows)], -1).to(picture.dtype)
    rest = _at(picture, torch.einsum("nij,hwj->nhwi", loop.rest_shown, here))
    return torch.cat([colours, loop.back_moved[:, 3:]], 1), torch.cat([rest, loop.rest_mask], 1)


def critic_terms(weight: LossWeights, critic: nn.Module, picture: Tensor, actions: Tensor) -> dict[str, Tensor]:
    """What painted crops owe to the critic, which itself learns nothing from this."""
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    realness, read = torch.func.functional_call(critic, frozen, (picture,))
    return {
        "critic": -weight.critic * realness.mean(),
        "critic_actions": weight.critic_actions * F.mse_loss(read, actions),
    }


def critic_loss(
    weight: LossWeights,
    critic: nn.Module,
    real: Tensor,
    real_actions: Tensor,
    painted: Tensor,
    rng: torch.Generator,
) -> Tensor:
    """What the critic learns from: real crops score high and painted ones low, and real ones show their actions."""
    score, read = critic(real)
    # In full precision and by the critic itself: what wraps it for other devices refuses slopes of slopes.
    penalty = gradient_penalty(getattr(critic, "module", critic), real, painted, rng)
    apart = critic(painted)[0].mean() - score.mean()
    return apart + weight.gradient_penalty * penalty + weight.critic_actions * F.mse_loss(read, real_actions)


def error(picture: Tensor, answer: Tensor, uncovered: Tensor, emphasis: float) -> Tensor:
    """Mean absolute error, in which uncovered pixels count `1 + emphasis` times."""
    importance = 1 + emphasis * uncovered
    importance = importance / importance.mean((1, 2, 3), keepdim=True)
    return ((picture - answer).abs() * importance).mean()


def attention_terms(weight: LossWeights, attention: Tensor, uncovered: Tensor) -> dict[str, Tensor]:
    """Attention is to be small where nothing was uncovered, and smooth."""
    return {
        "attention": weight.attention * (attention * (1 - uncovered)).square().mean(),
        "variation": weight.attention_variation * variation(attention),
    }


def variation(attention: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, across and down."""
    across = (attention[..., 1:] - attention[..., :-1]).abs().mean()
    return across + (attention[..., 1:, :] - attention[..., :-1, :]).abs().mean()


def unlike_change(picture: Tensor, answer: Tensor, pairs: np.ndarray) -> Tensor:
    """Mean absolute difference between the picture's change from frame to frame and the answer's."""
    first, second = pairs.T
    change = picture[second] - picture[first]
    return (change - (answer[second] - answer[first])).abs().mean()


def uncovered_by_motion(moved: Tensor, rest: Tensor, region: str) -> Tensor:
    """`(N, 1, h, w)` 0-1: where an opening is or was, and what it changes round it: what motion alone can't know."""
    widened, softened = _ROUND_OPENING[region]
    either = torch.maximum(moved[:, 3:4], rest[:, 3:4])
    near = F.avg_pool2d(F.max_pool2d(either, widened, 1, widened // 2), softened, 1, softened // 2)
    return near.clamp(min=_ELSEWHERE[region])


def _at(picture: Tensor, places: Tensor) -> Tensor:
    """A picture `(N, C, h, w)` sampled at places `(N, h, w, 2)` px (x, y); beyond its border the border."""
    height, width = picture.shape[2:]
    size = torch.tensor([width - 1, height - 1], device=picture.device, dtype=picture.dtype)
    grid = 2 * places.to(picture.dtype) / size - 1
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=True)
