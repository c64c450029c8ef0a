"""`python -m puppet doctor recording.mp4`: whether a recording is as it was signed, by whom, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from puppet.credentials.c2pa_file import Reading, read_file
from puppet.credentials.identity import ORGANIZATION, own_root
from puppet.credentials.manifest import PORTRAITS
from puppet.errors import one_line

MAX_SHOWN = 200  # characters of one entry, which may come from anyone

_SOURCES = {
    "compositeWithTrainedAlgorithmicMedia": "other pictures and AI-generated parts together",
    "trainedAlgorithmicMedia": "AI-generated",
    "digitalCapture": "captured by a camera",
}


def report(path: Path) -> int:
    """Print what is found in a recording; 0 where its credentials are valid, else 1.

    Raises:
        InputError: the file can't be read or is of another kind.
    """
    reading = read_file(path, own_root())
    name = one_line(str(path))
    if reading is None:
        print(f"{name}: no content credentials")
        print("  It was made without them (--credentials off, a run that was killed), or they were taken out of it.")
        return 1
    if reading.problems:
        print(f"{name}: TAMPERED or damaged after it was signed")
        for problem in reading.problems:
            print(f"  {_shown(problem)}")
        return 1
    print(f"{name}: valid, unchanged since it was signed")
    for kind, text in [*_statements(reading.manifest), ("signed by", _signer(reading))]:
        print(f"  {kind:<10} {text}")
    return 0


def _signer(reading: Reading) -> str:
    """A signature shows that nothing changed; who signed is only known where somebody vouches for the certificate."""
    signer = _shown(reading.signer)
    if reading.is_vouched:
        return f"{signer}: this machine's own, self-signed certificate. It shows that nothing changed, not who made it."
    if ORGANIZATION in reading.signer:
        return f"{signer}: a certificate that is self-signed, not this machine's own. Nobody vouches for who that is."
    return f"{signer}. Whether that name is true was not checked: no list of authorities is kept here."


def _statements(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the manifest says, whoever wrote it: nothing of its shape is taken for granted."""
    for generator in _entries(manifest.get("claim_generator_info")):
        yield "made with", _shown(f"{generator.get('name', '?')} {generator.get('version', '')}".strip())
    for assertion in _entries(manifest.get("assertions")):
        data = assertion.get("data")
        if not isinstance(data, dict):
            continue
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            for action in _entries(data.get("actions")):
                yield from _action(action)
        elif assertion.get("label") == PORTRAITS:
            for portrait in _entries(data.get("portraits")):
                yield from _portrait(portrait)


def _action(action: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source = str(action.get("digitalSourceType", "")).rpartition("/")[2]
    if source:
        meaning = f"{_SOURCES[source]} ({source})" if source in _SOURCES else source
        yield "source", _shown(meaning)
    if action.get("when"):
        yield "made at", _shown(f"{action['when']} by the maker's clock")
    if action.get("description"):
        yield "says", _shown(action["description"])


def _portrait(portrait: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "portrait", _shown(f"{portrait.get('file')}, SHA-256 {portrait.get('sha256')}")
    consent = portrait.get("consent")
    if isinstance(consent, dict):
        text = f"{consent.get('person')}, allowed by {consent.get('allowed_by')}"
        text += f", for {consent['purpose']}" if consent.get("purpose") else ""
        text += f", until {consent['until']}" if consent.get("until") else ""
        yield "consent", _shown(text + (", which had passed" if consent.get("ended") else ""))
    else:
        yield "consent", "no note was given"


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _shown(text: Any) -> str:
    """One printable line: what comes from a file must not steer the terminal."""
    return one_line(str(text), MAX_SHOWN)
