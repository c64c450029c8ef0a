"""What a recording says of itself: a C2PA manifest (specification 2.2, claim version 2) as the library's JSON.

The source type is IPTC's "composite with trained algorithmic media": most pixels are the portrait's own, moved, and
what moves them and fills in mouth and lids comes from trained models. "Trained algorithmic media" alone would say
that nothing in the picture was ever photographed or painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import puppet
from puppet.provenance import Provenance

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
DESCRIPTION = "AI-generated: a still portrait, animated. No camera filmed what is seen."
PORTRAITS = "puppet.portraits"
"""Label of the assertion that names the portraits: file name, SHA-256 and the consent note, if there is one."""

_MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
                ".avif": "image/avif", ".bmp": "image/bmp"}  # fmt: skip


def recording_manifest(title: str, portraits: Sequence[Provenance], *, now: datetime) -> dict[str, Any]:
    """The manifest of one recording; `portraits` in the order in which they were first seen."""
    names = [f"portrait-{i}" for i in range(len(portraits))]
    actions: list[dict[str, Any]] = [
        {
            "action": "c2pa.created",
            "when": now.isoformat(timespec="seconds"),
            "digitalSourceType": SOURCE_TYPE,
            "description": DESCRIPTION,
        }
    ]
    if names:
        actions.append({"action": "c2pa.placed", "parameters": {"ingredientIds": names}})
    return {
        "claim_generator_info": [{"name": "Puppet", "version": puppet.__version__}],
        "title": _text(title),
        "format": "video/mp4",
        "ingredients": [
            {
                "title": _text(portrait.file),
                "format": _MEDIA_TYPES.get(PurePath(portrait.file).suffix.lower(), "application/octet-stream"),
                "relationship": "componentOf",
                "instance_id": name,
            }
            for name, portrait in zip(names, portraits, strict=True)
        ],
        "assertions": [
            {"label": "c2pa.actions.v2", "created": True, "data": {"actions": actions}},
            {
                "label": PORTRAITS,
                "created": True,
                "data": {"portraits": [_portrait(portrait, now.date()) for portrait in portraits]},
            },
        ],
    }


def _portrait(portrait: Provenance, today: date) -> dict[str, Any]:
    entry: dict[str, Any] = {"file": _text(portrait.file), "sha256": portrait.sha256}
    if portrait.consent is not None:
        values = {name: str(value) for name, value in vars(portrait.consent).items() if value is not None}
        entry["consent"] = values | ({"ended": True} if portrait.consent.is_over(today) else {})
    return entry


def _text(name: str) -> str:
    """A file name as Unicode: on Linux it can be any bytes."""
    return name.encode("utf-8", "replace").decode("utf-8")
