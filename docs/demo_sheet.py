"""Make docs/demo.jpg: the demo's expressions at their height, on the portrait that comes along.

python docs/demo_sheet.py
"""

from pathlib import Path

import cv2
import numpy as np

from puppet.demo import SEGMENTS, demo_track
from puppet.gallery import demo_portrait
from puppet.generate.folds import FoldMaps
from puppet.generate.painter import TextureNetworks
from puppet.puppet import Puppet

FPS, TILE, COLUMNS = 30, 256, 6


def main() -> None:
    networks = TextureNetworks(regions=("eye",))  # as the program does by default
    puppet = Puppet.load(demo_portrait(), framing="head", texture=networks, folds=FoldMaps.load())
    track = demo_track(FPS)
    tiles = [_tile(puppet.still, "the portrait")]
    for segment in SEGMENTS:
        frame = min(round(segment.apex_s * FPS), len(track) - 1)
        tiles.append(_tile(puppet.render(track[frame]), segment.name))
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    path = Path(__file__).parent / "demo.jpg"
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _tile(rgb: np.ndarray, name: str) -> np.ndarray:
    tile = cv2.resize(rgb, (TILE, TILE), interpolation=cv2.INTER_AREA)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, name, (8, TILE - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
    return tile


if __name__ == "__main__":
    main()
