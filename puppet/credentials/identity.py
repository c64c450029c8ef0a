"""Who signs recordings: this machine's own certificate, made on first use, or one that the user has.

The own one is self-signed: a root whose key is thrown away at once, and under it the certificate that signs, as C2PA's
certificate profile wants a signer who was issued one. It names nobody, but it ties one user's recordings together.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from puppet.errors import InputError

CERTIFICATES, KEY = "certificates.pem", "key.pem"
ORGANIZATION = "Puppet (self-signed)"
VALID_YEARS = 20  # without a time stamp from an authority, recordings can be verified no longer than this
MAX_BYTES = 65_536  # of a PEM file
CLAIM_SIGNING = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")  # C2PA's own purpose of a key; older readers know e-mail's
_ON_CURVE = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class Identity:
    """A certificate chain, the signer's own certificate first, and its private key."""

    certificates_pem: str
    key_pem: str  # PKCS 8, not encrypted
    algorithm: str  # as C2PA names it: es256, es384, es512, ps256 or ed25519
    name: str  # of the signer, for the user


def own_folder() -> Path:
    """Where this machine's own certificate and key are kept."""
    import platformdirs

    return platformdirs.user_config_path("puppet") / "signing"


def own_identity() -> Identity:
    """This machine's own identity, made when it is first asked for.

    Raises:
        InputError: the user's configuration folder can't be written, or holds a damaged identity.
    """
    folder = own_folder()
    if not folder.exists():
        try:
            _make(folder)
        except OSError as error:
            raise InputError(f"no certificate to sign with could be made in {folder}: {error.strerror}.") from error
    try:
        return read_identity(folder / CERTIFICATES, folder / KEY)
    except InputError as error:
        raise InputError(f"{error} Delete {folder}: a new one is made.") from error


def own_root() -> str | None:
    """PEM of the root above this machine's own certificate; None where there is none yet, or none that can be read."""
    try:
        return _certificates(_read(own_folder() / CERTIFICATES))[-1].public_bytes(Encoding.PEM).decode("ascii")
    except (InputError, ValueError):
        return None


def read_identity(certificates: Path, key: Path) -> Identity:
    """An identity from PEM files: a chain with the signer's certificate first, and its key without a passphrase.

    Raises:
        InputError: unreadable, not PEM, not a pair, out of its time, or of a kind that C2PA does not sign with.
    """
    certificates_pem, key_pem = _read(certificates), _read(key)
    try:
        chain = _certificates(certificates_pem)
    except ValueError as error:
        raise InputError(f"{certificates} holds no certificates: expected PEM, the signer's own first.") from error
    try:
        private = load_pem_private_key(key_pem, password=None)
    except TypeError as error:
        raise InputError(f"{key} is encrypted: expected a private key without a passphrase.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{key} holds no private key: expected PEM.") from error
    if _public_bytes(private.public_key()) != _public_bytes(chain[0].public_key()):
        raise InputError(f"{key} is not the key of the first certificate in {certificates}.")
    now = datetime.now(UTC)
    if not chain[0].not_valid_before_utc <= now <= chain[0].not_valid_after_utc:
        first, last = chain[0].not_valid_before_utc.date(), chain[0].not_valid_after_utc.date()
        raise InputError(f"the certificate in {certificates} is valid from {first} to {last}, not today.")
    return Identity(
        "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in chain),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"),
        _algorithm(private, key),
        _name(chain[0]),
    )


def _algorithm(private: object, path: Path) -> str:
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _ON_CURVE:
        return _ON_CURVE[private.curve.name]
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "ps256"
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise InputError(
        f"{path} is a {type(private).__name__}: expected a key on P-256, P-384 or P-521, Ed25519, or RSA of 2048 bits."
    )


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _public_bytes(public) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is longer than {MAX_BYTES // 1024} KiB: expected PEM.")
    return content


def _make(folder: Path) -> None:
    """Write a new identity, whole or not at all; where another process was faster, its own stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="signing-", dir=folder.parent))  # mode 0700
    try:
        root, signer, key = _self_signed()
        with open(os.open(made / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (made / CERTIFICATES).write_bytes(signer.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
        made.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _self_signed() -> tuple[x509.Certificate, x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A root, a certificate under it and that one's key; the root's own key ends with this call."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = f"Puppet {secrets.token_hex(4)}"
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        _builder(f"{name} root", f"{name} root", root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(root_id, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    signer = (
        _builder(name, f"{name} root", key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return root, signer, key


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_distinguished(subject))
        .issuer_name(_distinguished(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=365.25 * VALID_YEARS))
    )


def _distinguished(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION)]
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
