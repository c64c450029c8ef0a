"""Sizes of the texture networks; apart from them so that the command line does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextureParams:
    """Channels of one region's network."""

    near: int = 16
    """At half the crop's resolution."""
    middle: int = 32
    """At a quarter."""
    deep: int = 64
    """At an eighth."""
    style: int = 24
    """Numbers that sum up the portrait."""
    rest_near: int = 16
    """Channels of the portrait's own features at half resolution."""
    relight: float = 0.0
    """Inside an opening what was drawn is only made lighter or darker, by at most this share (mouths: 0.8); 0 paints
    freely. Painted freely from few examples, mouth networks fill cavities with milk and tint teeth like lips."""
    lighter: float = 0.0
    """Inside an opening nothing becomes lighter than this many times what was drawn close by, colour by colour (mouths:
    1.2): gaps between teeth may be filled, cavities not; 0 sets no limit."""
    darker: float = 0.0
    """Inside an opening nothing becomes darker than this share of what was drawn: teeth stay teeth; 0 sets no limit."""
    tint: float = 1.0
    """Share of a change of hue that counts inside an opening (mouths: 0.5): teeth of paintings and statues turn less
    rosy."""
    skin_hue: float = 0.0
    """Share of what is painted outside an opening that has the hue of the crop's own skin, whatever hue was learned
    (eyes: 0.5): lids of cartoons and of photographs with a colour cast stay free of orange and grey stains."""
