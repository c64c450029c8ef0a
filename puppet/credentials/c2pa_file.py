"""Sign and read files with the C2PA library (imported in this file only, and only when it is used)."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puppet.credentials.identity import Identity
from puppet.errors import CredentialsError, InputError

_SETTINGS: Mapping[str, Any] = {
    # Nothing is fetched: neither manifests that lie elsewhere nor what an authority says of a certificate.
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"allowed_network_hosts": []},
    "builder": {"thumbnail": {"enabled": False}},
}
_FORMATS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}
_UNTRUSTED = "signingCredential.untrusted"


@dataclass(frozen=True)
class Reading:
    """What was found in a file."""

    problems: tuple[str, ...]  # empty: the file is as it was when it was signed
    is_vouched: bool  # whether the certificate comes from the given root
    signer: str  # as the certificate names itself
    manifest: Mapping[str, Any]  # the library's JSON; written by whoever made the file


def sign_file(path: Path, manifest: Mapping[str, Any], identity: Identity) -> None:
    """Replace a recording by the same with credentials, whole or not at all.

    Raises:
        CredentialsError: it could not be signed, and is as it was.
    """
    path = path.resolve()  # a link's target is replaced, not the link
    partial: str | None = None
    try:
        before = _state(path)
        number, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with open(path, "rb") as source, open(number, "w+b") as target:
            _sign(manifest, identity, _FORMATS[".mp4"], source, target)
            target.flush()
            os.fsync(target.fileno())
        shutil.copymode(path, partial)
        if _state(path) != before:
            raise CredentialsError("it was changed while it was signed.")
        os.replace(partial, path)
    except OSError as error:
        raise CredentialsError(f"{error.strerror or error}.") from error
    finally:
        if partial is not None and os.path.exists(partial):
            os.unlink(partial)


def try_identity(identity: Identity) -> None:
    """Sign something small, to know at the start that it can be done at the end.

    Raises:
        CredentialsError: the certificate is not one that C2PA allows.
    """
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "JPEG")
    picture.seek(0)
    action = {
        "action": "c2pa.created",
        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation",
    }
    manifest = {
        "claim_generator_info": [{"name": "Puppet"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }
    _sign(manifest, identity, "image/jpeg", picture, io.BytesIO())


def read_file(path: Path, root_pem: str | None) -> Reading | None:
    """What a recording says, None where it carries no credentials. `root_pem` is vouched for by the caller.

    Raises:
        InputError: the file can't be read or is of another kind.
    """
    import c2pa

    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is no recording: expected a name that ends in {', '.join(_FORMATS)}.")
    settings = dict(_SETTINGS)
    if root_pem is not None:
        settings["trust"] = {"user_anchors": root_pem}
    try:
        with open(path, "rb") as file, c2pa.Context.from_dict(settings) as context:
            try:
                with c2pa.Reader(kind, file, context=context) as reader:
                    return _reading(json.loads(reader.json()))
            except c2pa.C2paError.ManifestNotFound:
                return None
            except c2pa.C2paError as error:
                return Reading((_plain(error),), False, "", {})
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error


def _state(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _sign(manifest: Mapping[str, Any], identity: Identity, kind: str, source: io.IOBase, target: io.IOBase) -> None:
    try:
        import c2pa
    except (ImportError, OSError) as error:  # its native library is loaded by path
        raise CredentialsError(f"c2pa-python can't be loaded ({error}): pip install c2pa-python.") from error
    try:
        # No address of a time stamp authority: signing stays on this machine.
        info = c2pa.C2paSignerInfo(
            identity.algorithm.encode(), identity.certificates_pem.encode(), identity.key_pem.encode(), None
        )
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder.from_json(json.dumps(manifest), context) as builder,
        ):
            builder.sign(signer, kind, source, target)
    except c2pa.C2paError as error:
        raise CredentialsError(f"{_plain(error)}.") from error


def _reading(store: Mapping[str, Any]) -> Reading:
    results = store.get("validation_results", {}).get("activeManifest", {})
    failures = [status for status in results.get("failure", []) if status.get("code") != _UNTRUSTED]
    problems = [f"{status.get('explanation') or 'not valid'} ({status.get('code')})" for status in failures]
    state = store.get("validation_state")
    if state not in ("Valid", "Trusted") and not problems:
        problems.append(f"its state is {state}")
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    names = manifest.get("signature_info", {})
    signer = ", ".join(str(names[key]) for key in ("common_name", "issuer") if names.get(key))
    return Reading(tuple(problems), state == "Trusted", signer, manifest)


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
