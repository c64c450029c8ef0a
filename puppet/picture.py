"""Pictures from files: checked before they are decoded, upright, 8 bits a channel."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from puppet.errors import InputError
from puppet.input_file import reason, require_file

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp")
MAX_MEGAPIXELS = 40.0
MAX_BYTES = 256 << 20  # 40 megapixels of 16 bits a channel, hardly compressed
MAX_SCANS = 100
"""Passes of a progressive JPEG. Encoders write about ten; each costs the time of a whole decoding."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP")
_EXPECTED = "a JPEG, PNG, WebP, AVIF or BMP picture"
_ORIENTATION = 0x0112
_GREY = (128, 128, 128)
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
# What Pillow's readers, which are written in Python, throw at damaged files.
_FAILURES = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, RuntimeError,
    AssertionError, struct.error, zlib.error,
)  # fmt: skip


def decode(path: Path) -> np.ndarray:
    """A picture file as `(H, W, 3)` uint8 RGB: turned as its EXIF says, transparent pixels laid on mid grey.

    Of a moving picture the first frame; 16 bits are scaled to 8; CMYK is converted without its colour profile.

    Raises:
        InputError: missing, no picture, damaged, or more than 40 megapixels.
    """
    from PIL import Image, UnidentifiedImageError

    require_file(path, expected=_EXPECTED, max_bytes=MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs (our own limit is lower and an error) and of odd metadata
            _refuse_endless_jpeg(path)
            Image.init()
            with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
                _refuse_too_many_pixels(path, image)
                turn = _turn(image)
                image.load()
                rgb = _rgb(image)
            if turn is not None:
                rgb = np.asarray(Image.fromarray(rgb).transpose(turn))
            return np.ascontiguousarray(rgb)
    except InputError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(_no_picture(path)) from error
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than there is. Scale the picture down.") from error
    except _FAILURES as error:
        raise InputError(f"{path} is damaged ({reason(error)}): expected a complete picture. Save it anew.") from error


def _refuse_endless_jpeg(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(2) != b"\xff\xd8":
            return
        scans, tail = 0, b""
        while block := file.read(1 << 20):
            scans += (tail + block).count(b"\xff\xda")  # a scan's own bytes never hold this pair
            tail = block[-1:]
    if scans > MAX_SCANS:
        raise InputError(f"{path} is damaged ({scans} scans): expected at most {MAX_SCANS}. Save it anew.")


def _refuse_too_many_pixels(path: Path, image: Image.Image) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise InputError(
            f"{path} has {megapixels:.0f} megapixels: expected at most {MAX_MEGAPIXELS:.0f}. Scale it down."
        )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings the picture upright; None where it is, or where its EXIF can't be read."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    try:
        orientation = image.getexif().get(_ORIENTATION)
        return turns.get(orientation) if isinstance(orientation, int) else None
    except _FAILURES:  # a broken note about a picture is no broken picture
        return None


def _rgb(image: Image.Image) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it at 255
        grey = (np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, _GREY)
        ground.paste(image, mask=image.getchannel("A"))
        image = ground
    return np.array(image.convert("RGB"))


def _no_picture(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return f"{path} is a HEIC picture, which can't be read here: expected {_EXPECTED}. Save it as JPEG."
    return f"{path} is not a picture: expected {_EXPECTED}."
