"""Which faces a folder holds: by its manifest.csv, or, where there is none, by its sub-folders and file names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from puppet.errors import InputError
from trainer.tracking import manifest, person_of

CLIPS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
STILLS = (".jpg", ".jpeg", ".png", ".webp")
_CAMERA_NAMES = frozenset(
    "img dsc dscf dscn dscn pxl vid mvi mov gopr image photo picture video clip frame screenshot".split()
)
_FIRST_OF_A_PERSON = (
    1, 22, 42, 47, 69, 90, 113, 133, 138, 159, 164, 169, 174, 194, 215, 240, 262, 267, 286, 306, 326, 346, 366, 388,
    389, 390, 391, 393, 398, 418,
)  # fmt: skip
"""Numbers of the Caltech snapshots with which another person begins, as seen by eye: their manifest does not say."""


@dataclass(frozen=True)
class FaceFile:
    """One picture or video; those of one `person` are never both trained on and held out."""

    path: Path
    kind: Literal["clip", "still"]
    person: str


def find_faces(folder: Path) -> list[FaceFile]:
    """All pictures and videos of a folder, in order.

    With a `manifest.csv` (columns file, use, kind, person): its rows of use `train`. Without: every file with a known
    ending. A sub-folder is a person, however deep the file lies in it; a file that lies in the folder itself belongs to
    the person named by its stem without a number at the end (`anna-2.mp4` is anna), or, where that is what a camera
    writes (`IMG_1234.jpg`), to a person of its own.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: expected one with pictures and videos. Give it with --faces-dir.")
    if (folder / "manifest.csv").is_file():
        rows = [row for row in manifest(folder) if row["use"] == "train"]
        found = [FaceFile(folder / row["file"], row["kind"], _person_of_row(row)) for row in rows]
    else:
        found = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            kind = "clip" if path.suffix.lower() in CLIPS else "still" if path.suffix.lower() in STILLS else None
            if kind is not None:
                found.append(FaceFile(path, kind, person_by_name(path.relative_to(folder))))
    if not found:
        raise InputError(
            f"no faces in {folder}: expected pictures ({', '.join(STILLS)}) or videos ({', '.join(CLIPS)}), a "
            "sub-folder for each person. Give their folder with --faces-dir."
        )
    return found


def _person_of_row(row: dict[str, str]) -> str:
    path = Path(row["file"])
    if path.parent.name != "caltech-faces":
        return person_of(row)
    number = int(re.search(r"(\d+)\D*$", path.name).group(1))
    return f"caltech:{max(first for first in _FIRST_OF_A_PERSON if first <= number):04d}"


def person_by_name(relative: Path) -> str:
    """The person of a file by its place in the folder."""
    if len(relative.parts) > 1:
        return relative.parts[0]
    name = re.sub(r"[\s_.()-]*\d+\)?$", "", relative.stem)
    is_a_camera = not name or re.sub(r"[\W\d_]+", "", name).lower() in _CAMERA_NAMES
    return relative.stem if is_a_camera else name
