"""A person's own teeth, taken from a video as they are, in the place of the drawn ones.

The looks that the video's frames give into the mouth (`trainer.teeth_looks`) are put together to an upper and, where it
shows, a lower row (`trainer.teeth_row`), in a file that the generator takes as it takes the packaged pictures.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from puppet.errors import InputError
from puppet.generate.mouth import MouthPictures, mouth_light, skin_colour
from trainer.clip_frames import openness
from trainer.disk import written_whole
from trainer.readings import ActionReader
from trainer.teeth_looks import Look, LookPair, MouthReader, choose_frames, most_closed, read_box
from trainer.teeth_row import Row, complete, drawn_white, gather, middle, moved_by
from trainer.texture_pairs import Toolbox

log = logging.getLogger(__name__)

_BELOW_CM = 0.05  # lower teeth begin this far below the upper ones
_LOWER_LIGHT = 0.8  # of the upper teeth's, where nobody saw the lower ones
_BRIGHTEST = 99.5  # percentile of a row's pixels that the file can hold


@dataclass(frozen=True)
class Views:
    """What a video shows: looks into the mouth, and the frame `(H, W, 3)` RGB with the most closed lips and its
    landmarks `(478, 3)`; `skin` is how bright the skin is, as a share of what is white in that light."""

    looks: list[LookPair]
    closed: tuple[np.ndarray, np.ndarray]
    skin: float


def read_views(path: Path, landmarks_px: np.ndarray, part: tuple[float, float], tools: Toolbox) -> Views:
    """Looks into the mouth of a video's person.

    `landmarks_px` `(F, 478, 3)`, NaN without a face, are the video's; `part` is the share of it, in time, that is used.

    Raises:
        InputError: the video can't be decoded again.
    """
    known = np.flatnonzero(np.isfinite(landmarks_px[:, 0, 0]))
    known = known[round(part[0] * len(known)) : round(part[1] * len(known))]
    mouth = openness(landmarks_px[known])[1]
    closed = most_closed(landmarks_px[known], mouth)
    chosen = choose_frames(landmarks_px[known], mouth, closed)
    chosen, first = known[chosen[chosen != closed]], int(known[closed])
    frames, moved = read_box(path, landmarks_px, np.append(chosen, first))
    if first not in frames:
        raise InputError(
            f"{path}: frame {first} can't be decoded a second time: expected a video that can be read anew."
        )
    reader = MouthReader(tools.generator(frames[first], moved[first]), tools, ActionReader().still)
    looks = reader.read({n: rgb for n, rgb in frames.items() if n != first}, moved)
    skin = float(np.median([skin_in_light(frames[n], moved[n]) for n in frames if n != first] or [1.0]))
    return Views(looks, (frames[first], moved[first]), skin)


def skin_in_light(rgb: np.ndarray, landmarks_px: np.ndarray) -> float:
    """How bright the skin of a face is, as a share of what counts as white in the picture's light."""
    return float(skin_colour(rgb, landmarks_px).mean() / (255 * mouth_light(rgb, landmarks_px).mean()))


def as_bright_as(pictures: MouthPictures, skin: float, portrait_skin: float) -> MouthPictures:
    """Teeth that are as bright beside the portrait's skin as beside that of the video (see `skin_in_light`).

    A portrait's light is read from the whites of its eyes, which a closed or painted eye may not show.
    """
    white = pictures.white * float(np.clip(portrait_skin / skin, 0.5, 2.0))
    return dataclasses.replace(pictures, white=white)


def lay_rows(pairs: list[LookPair], drawn: MouthPictures) -> MouthPictures | None:
    """The pictures with the rows that the looks show; None where they show no upper row."""
    density = drawn.px_per_cm
    upper = gather([pair.upper for pair in pairs], pairs, density, lower_px=_lower_px(pairs))
    if upper is None:
        return None
    upper_picture, drop = complete(upper, drawn.upper, density)
    below = [pair for pair, matrix in zip(pairs, upper.matrices, strict=True) if matrix is not None]
    ways = [matrix for matrix in upper.matrices if matrix is not None]
    looks = [_turned_over(_below(pair, way, upper, density)) for pair, way in zip(below, ways, strict=True)]
    lower = gather(looks, below, density, usual_level=upper.level)
    if lower is not None:
        lower_picture = complete(lower, drawn.lower[::-1], density)[0][::-1]
    else:
        # Nobody saw them: the drawn ones in the upper ones' colour, where these leave them room.
        lower_picture = moved_by(drawn.lower, np.full(drawn.lower.shape[1], max(0.0, float(np.median(drop)))))
        lower_picture[..., :3] *= _LOWER_LIGHT * upper.white / drawn_white(drawn.lower)
        lower_picture[..., 3] /= 255
    log.info(
        "teeth: upper row from %d frames, lower row %s",
        upper.used,
        f"from {lower.used}" if lower else "drawn, in their colour",
    )
    brightest = max(
        float(np.percentile(row.rgb[row.known > 0.5], _BRIGHTEST)) for row in (upper, lower) if row is not None
    )
    white = float(np.clip(brightest / 255, 1.0, 4.0))
    return dataclasses.replace(
        drawn,
        upper=_bytes(upper_picture, white),
        lower=_bytes(lower_picture, white),
        tongue=_bytes(np.dstack([drawn.tongue[..., :3], drawn.tongue[..., 3:] / np.float32(255)]), white),
        white=white,
    )


def write_mouth(path: Path, pictures: MouthPictures, *, source: str) -> None:
    """A file that `MouthPictures.load` reads; `source` says what the teeth were taken from."""
    arrays = {
        field.name: np.ascontiguousarray(value)
        for field in dataclasses.fields(pictures)
        if isinstance(value := getattr(pictures, field.name), np.ndarray)
    }
    metadata = {
        "px_per_cm": str(pictures.px_per_cm),
        "left_top_cm": json.dumps(list(pictures.left_top_cm)),
        "white": str(pictures.white),
        "source": source,
    }
    with written_whole(path) as part:
        save_file(arrays, part, metadata)


def _lower_px(pairs: list[LookPair]) -> float:
    """How much lower the teeth go to show as much below the lip as they did: actions raise it less than it was seen."""
    if not pairs:
        return 0.0
    weights = np.array([pair.upper.amount for pair in pairs])
    return float(middle(np.array([[pair.lip_px] for pair in pairs]), weights)[0])


def _below(pair: LookPair, upper_look_from_row: np.ndarray, upper: Row, px_per_cm: float) -> Look:
    """A look at the lower layer without what is the upper row's."""
    height, width = upper.known.shape
    rows = np.arange(height, dtype=np.float32)[:, None]
    edge = np.interp(np.arange(width), *_finite(upper.edge)) + _BELOW_CM * px_per_cm
    hidden = np.clip(edge - rows + 0.5, 0, 1).astype(np.float32)
    row_from_look = cv2.invertAffineTransform(upper_look_from_row)
    look_from_lower = cv2.invertAffineTransform(pair.lower_from_upper)
    row_from_lower = row_from_look @ np.vstack([look_from_lower, [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cover = cv2.warpAffine(hidden, row_from_lower, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return dataclasses.replace(pair.lower, seen=pair.lower.seen * (1 - cover))


def _finite(edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns = np.flatnonzero(np.isfinite(edge))
    return columns, edge[columns]


def _turned_over(look: Look) -> Look:
    return Look(*(np.ascontiguousarray(plane[::-1]) for plane in (look.rgb, look.shade, look.seen, look.tooth)))


def _bytes(picture: np.ndarray, white: float) -> np.ndarray:
    """`(H, W, 4)` uint8 of RGBA float32 with alpha 0-1."""
    scaled = np.dstack([picture[..., :3] / white, picture[..., 3:] * 255])
    return np.round(np.clip(scaled, 0, 255)).astype(np.uint8)
