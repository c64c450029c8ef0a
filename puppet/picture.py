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
from puppet.picture_parts import refuse_endless

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp")
MAX_MEGAPIXELS = 40.0
MAX_BYTES = 256 << 20  # 40 megapixels of 16 bits a channel, hardly compressed
_STRIP = 256
"""Rows converted at once: copies of a whole picture would take a gigabyte."""

_LEAST_FRAME, _MOST_FRAME, _FRAME_BEYOND = 4, 0.012, 12  # px, share of the side, px that are compared with
_FRAME_JUMP, _FRAME_CONTRAST = 10.0, 4.0  # mean grey levels, and times the usual change from line to line

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP")
EXPECTED = "a JPEG, PNG, WebP, AVIF or BMP picture"
_ORIENTATION = 0x0112
_UPRIGHT = {
    1: lambda rgb: rgb,
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.transpose(1, 0, 2),
    6: lambda rgb: rgb[::-1].transpose(1, 0, 2),
    7: lambda rgb: rgb[::-1, ::-1].transpose(1, 0, 2),
    8: lambda rgb: rgb[:, ::-1].transpose(1, 0, 2),
}
"""What EXIF's orientation asks for."""
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

    require_file(path, expected=EXPECTED, max_bytes=MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs (our own limit is lower and an error) and of odd metadata
            refuse_endless(path)
            Image.init()
            with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
                _refuse_too_many_pixels(path, image)
                image.load()
                return np.ascontiguousarray(_UPRIGHT[_orientation(image)](_rgb(image)))
    except InputError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(_no_picture(path)) from error
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than there is. Scale the picture down.") from error
    except _FAILURES as error:
        raise InputError(f"{path} is damaged ({reason(error)}): expected a complete picture. Save it anew.") from error


def without_frame(rgb: np.ndarray) -> np.ndarray:
    """A picture `(H, W, 3)` uint8 without the thin lines that scans and cut-outs leave along their sides.

    Such a line ends in a jump of brightness along a whole side, within a hundredth of the picture. It would be seen
    bent as soon as the head draws the picture's border along. What lies beside it goes on in its place; a picture
    without such lines is returned as it is.
    """
    height, width = rgb.shape[:2]
    top, bottom, left, right = map(_frame_px, (rgb, rgb[::-1], rgb.swapaxes(0, 1), rgb.swapaxes(0, 1)[::-1]))
    if not top + bottom + left + right:
        return rgb
    inner = rgb[top : height - bottom, left : width - right]
    return np.pad(inner, ((top, bottom), (left, right), (0, 0)), mode="edge")


def _frame_px(lines: np.ndarray) -> int:
    """How many of the first lines are a frame."""
    most = max(_LEAST_FRAME, round(_MOST_FRAME * len(lines)))
    jumps = np.abs(np.diff(lines[: most + _FRAME_BEYOND].astype(np.int16), axis=0)).mean((1, 2))
    if len(jumps) < most + _FRAME_BEYOND - 1:
        return 0
    end = int(np.argmax(jumps[:most]))
    is_frame = jumps[end] > max(_FRAME_JUMP, _FRAME_CONTRAST * np.median(jumps[most:]))
    return end + 1 if is_frame else 0


def _refuse_too_many_pixels(path: Path, image: Image.Image) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise InputError(
            f"{path} has {megapixels:.0f} megapixels: expected at most {MAX_MEGAPIXELS:.0f}. Scale it down."
        )


def _orientation(image: Image.Image) -> int:
    """EXIF's 1-8; 1, upright, where there is none or it can't be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _FAILURES:  # a broken note about a picture is no broken picture
        return 1
    return value if value in _UPRIGHT else 1


def _rgb(image: Image.Image) -> np.ndarray:
    """`(H, W, 3)` uint8 as it is stored."""
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    is_transparent = image.has_transparency_data
    for top in range(0, height, _STRIP):
        strip = image.crop((0, top, width, min(height, top + _STRIP)))
        rgb[top : top + _STRIP] = _strip_rgb(strip, is_transparent)
    return rgb


def _strip_rgb(image: Image.Image, is_transparent: bool) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it at 255
        return (np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8)[..., None]
    if is_transparent:
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, _GREY)
        ground.paste(image, mask=image.getchannel("A"))
        image = ground
    return np.asarray(image.convert("RGB"))


def _no_picture(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return f"{path} is a HEIC picture, which can't be read here: expected {EXPECTED}. Save it as JPEG."
    return f"{path} is not a picture: expected {EXPECTED}."
