"""Sizes of the texture networks; apart from them so that the command line does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TextureParams:
    """Channels of one region's network."""

    fold: int = 2
    """So many pixels across and down are folded into channels first: the more, the faster, and the softer what is
    painted. The crop's sides are multiples of four times this."""
    near: int = 16
    """At the folded resolution."""
    middle: int = 32
    """At half of it."""
    deep: int = 64
    """At a quarter."""
    style: int = 24
    """Numbers that sum up the portrait."""
    join: int = 1
    """Side of the kernels that join a level with the finer one above it, px: 3 costs a fifth of the whole more."""
    rest_near: int = 16
    """Channels of the portrait's own features at the folded resolution."""
    relight: float = 0.0
    """Inside an opening what was drawn is only made lighter or darker, by at most this share; 0 paints freely."""
    lighter: float | None = None
    """Inside an opening nothing becomes lighter than this many times what was drawn close by, colour by colour: gaps
    between teeth may be filled, cavities not; 0 sets no limit. (Mouths 1.2, else none.)"""
    darker: float | None = None
    """Inside an opening nothing becomes darker than this share of what was drawn: teeth stay teeth; 0 sets no limit.
    (Mouths 0.6, else none.)"""
    tint: float | None = None
    """Share of a change of hue that counts inside an opening: teeth of paintings and statues turn less rosy, eyes that
    are half closed less red. (Mouths 0.25, eyes 0.3, else 1.)"""
    skin_hue: float | None = None
    """Share of what is painted outside an opening that has the hue of the crop's own skin, whatever hue was learned:
    lids of cartoons and of photographs with a colour cast stay free of orange and grey stains. (Eyes and mouths 0.5,
    else 0.)"""

    def of(self, region: str) -> TextureParams:
        """The same with the region's own where nothing is set; regions that have none are not limited."""
        own = FREE | _OF_REGION.get(region, {})
        return replace(self, **{name: value for name, value in own.items() if getattr(self, name) is None})


FREE = {"lighter": 0.0, "darker": 0.0, "tint": 1.0, "skin_hue": 0.0}
"""Networks that say nothing of a limit have none."""
_OF_REGION = {
    "mouth": {"lighter": 1.2, "darker": 0.6, "tint": 0.25, "skin_hue": 0.5},
    "eye": {"tint": 0.3, "skin_hue": 0.5},
}
