"""Content credentials: real recordings are signed, verified, changed, stripped; nothing is fetched, nothing is lost."""

import http.server
import io
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from puppet import cli, facs
from puppet.consent import Consent
from puppet.credentials import c2pa_file, identity
from puppet.credentials.manifest import SOURCE_TYPE, recording_manifest
from puppet.credentials.report import report
from puppet.credentials.signing import RecordingSigner
from puppet.errors import CredentialsError, InputError
from puppet.gallery import demo_portrait
from puppet.openface import TrackWriter
from puppet.provenance import Provenance
from puppet.publish import Rendering
from puppet.publish import recorder as recorder_module
from puppet.publish.outputs import Outputs
from puppet.publish.recorder import Recorder

SIZE = (64, 48)
ADA = Provenance("ada.jpg", "ab" * 32, Consent("Ada", "herself", "calls", date(2020, 1, 31)))
BOB = Provenance("bob.png", "cd" * 32)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    """Where this test's own certificate is made."""
    folder = tmp_path / "config" / "signing"
    monkeypatch.setattr(identity, "own_folder", lambda: folder)
    return folder


def record(path, *, sign=None, portraits=(ADA,), frames=30):
    """A recording of noise, so that it has some kilobytes in which to change something."""
    recorder = Recorder(path, size=SIZE, fps=30, may_drop=False, sign=sign)
    for i in range(frames):
        rgb = np.random.default_rng(i).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        portrait = portraits[i * len(portraits) // frames]
        recorder.publish(Rendering(rgb, i, i / 30, facs.rest(), facs.rest(), True, portrait=portrait))
    recorder.close()
    return path


def sign_here(path, portraits):
    """What the program does in a process of its own."""
    manifest = recording_manifest(path.name, portraits, now=datetime.now(UTC))
    c2pa_file.sign_file(path, manifest, identity.own_identity())


@pytest.fixture
def signed(tmp_path):
    return record(tmp_path / "out.mp4", sign=sign_here)


def pictures(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def boxes(content):
    """Top-level boxes of an mp4: (kind, start, end)."""
    place = 0
    while place < len(content):
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8].decode("latin1")
        if size == 1:
            size = int.from_bytes(content[place + 8 : place + 16], "big")
        yield kind, place, place + size
        place += size


def place_in(content, kind, share=0.5):
    (start, end), *_ = [(start, end) for found, start, end in boxes(content) if found == kind]
    return int(start + share * (end - start))


# Valid


def test_a_recording_is_valid_and_says_what_made_it_from_which_portrait(signed, capsys):
    assert cli.main(["doctor", str(signed)]) == 0
    out = capsys.readouterr().out
    assert "valid, unchanged since it was signed" in out
    for words in (
        "Puppet 0.1.0",
        "compositeWithTrainedAlgorithmicMedia",
        "AI-generated: a still portrait, animated",
        f"ada.jpg, SHA-256 {'ab' * 32}",
        "Ada, allowed by herself, for calls, until 2020-01-31, which had passed",
        "this machine's own, self-signed certificate",
    ):
        assert words in out


def test_signing_changes_no_picture(tmp_path, signed):
    plain = record(tmp_path / "plain.mp4")
    for (before_s, before), (after_s, after) in zip(pictures(plain), pictures(signed), strict=True):
        assert before_s == after_s
        np.testing.assert_array_equal(before, after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config", "out.mp4", "plain.mp4"]


def test_recordings_of_fragments_are_signed_as_well(tmp_path, monkeypatch, capsys):
    """What FFmpeg before 7.1 leaves behind."""
    monkeypatch.setattr(recorder_module, "_movflags", lambda: "frag_keyframe+empty_moov+default_base_moof")
    path = record(tmp_path / "out.mp4", sign=sign_here, frames=90)
    assert "moof" in [kind for kind, *_ in boxes(path.read_bytes())]
    assert report(path) == 0
    assert len(pictures(path)) == 90


def test_every_portrait_that_was_seen_is_named_once_in_order(tmp_path):
    path = record(tmp_path / "out.mp4", sign=sign_here, portraits=(ADA, BOB, ADA))
    manifest = c2pa_file.read_file(path, None).manifest
    assert [ingredient["title"] for ingredient in manifest["ingredients"]] == ["ada.jpg", "bob.png"]
    (portraits,) = [a["data"]["portraits"] for a in manifest["assertions"] if a["label"] == "puppet.portraits"]
    assert [portrait["file"] for portrait in portraits] == ["ada.jpg", "bob.png"]
    assert portraits[0]["consent"]["ended"] is True and "consent" not in portraits[1]


def test_the_manifest_marks_generated_media_as_the_specification_asks():
    manifest = recording_manifest("out.mp4", [ADA], now=datetime(2020, 1, 31, 12, tzinfo=UTC))
    created, placed = manifest["assertions"][0]["data"]["actions"]
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert placed == {"action": "c2pa.placed", "parameters": {"ingredientIds": ["portrait-0"]}}
    assert manifest["assertions"][1]["data"]["portraits"][0]["consent"] == {
        "person": "Ada", "allowed_by": "herself", "purpose": "calls", "until": "2020-01-31",
    }  # fmt: skip


def test_a_file_name_that_is_no_text_is_signed_too(tmp_path):
    if sys.platform != "linux":
        pytest.skip("only Linux has file names of any bytes")
    path = record(tmp_path / os.fsdecode(b"\xff.mp4"), sign=RecordingSigner().sign)
    assert c2pa_file.read_file(path, None).problems == ()


def test_the_program_signs_with_the_files_hash_and_note(tmp_path, capsys):
    writer = TrackWriter(tmp_path / "track.csv")
    writer.write(facs.rest(), frame=0, time_s=0, confidence=1, has_face=True)
    writer.close()
    (tmp_path / "ada.png").write_bytes(demo_portrait().read_bytes())
    (tmp_path / "ada.toml").write_text('person = "Ada"\nallowed_by = "herself"\n')
    args = ["--target", str(tmp_path / "ada.png"), "--driver", str(tmp_path / "track.csv"), "--size", "128x128"]
    args += ["--as-fast-as-possible", "--record"]
    assert cli.main([*args, str(tmp_path / "on.mp4")]) == 0
    assert cli.main([*args, str(tmp_path / "off.mp4"), "--credentials", "off"]) == 0
    assert cli.main(["doctor", str(tmp_path / "on.mp4")]) == 0
    out = capsys.readouterr().out
    assert "ada.png, SHA-256 88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5" in out
    assert "Ada, allowed by herself" in out
    assert cli.main(["doctor", str(tmp_path / "off.mp4")]) == 1
    assert "no content credentials" in capsys.readouterr().out


# Changed, stripped, killed


@pytest.mark.parametrize(
    ("kind", "share"), [("mdat", 0.1), ("mdat", 0.5), ("mdat", 0.95), ("moov", 0.3), ("moov", 0.9), ("uuid", 0.5)]
)
def test_one_changed_byte_is_tampering(signed, capsys, kind, share):
    content = bytearray(signed.read_bytes())
    content[place_in(content, kind, share)] ^= 0x10
    signed.write_bytes(content)
    assert cli.main(["doctor", str(signed)]) == 1
    out = capsys.readouterr().out
    assert "TAMPERED" in out and "valid, unchanged" not in out


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[:-200], id="cut off"),
        pytest.param(lambda content: content + (16).to_bytes(4, "big") + b"mdat" + bytes(8), id="added to"),
        pytest.param(lambda content: content[: place_in(content, "mdat", 0)], id="only the beginning"),
    ],
)
def test_a_file_that_was_cut_or_added_to_is_tampering(signed, capsys, change):
    signed.write_bytes(change(signed.read_bytes()))
    assert report(signed) == 1
    assert "TAMPERED" in capsys.readouterr().out


def test_other_words_in_the_manifest_are_tampering(signed, capsys):
    content = signed.read_bytes()
    assert content.count(b"herself") == 1
    signed.write_bytes(content.replace(b"herself", b"himself"))
    assert report(signed) == 1
    assert "TAMPERED" in capsys.readouterr().out


def test_stripped_credentials_are_none(signed, tmp_path, capsys):
    stripped = tmp_path / "stripped.mp4"
    with av.open(str(signed)) as source, av.open(str(stripped), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert cli.main(["doctor", str(stripped)]) == 1
    assert "no content credentials" in capsys.readouterr().out


def test_a_killed_recording_plays_and_is_not_signed(tmp_path, capsys):
    code = """
        import os, signal, sys
        import numpy as np
        from pathlib import Path
        from puppet.credentials.signing import RecordingSigner
        from puppet.publish import Rendering
        from puppet.publish.recorder import Recorder
        sign = RecordingSigner().sign
        recorder = Recorder(Path(sys.argv[1]), size=(64, 48), fps=30, may_drop=False, sign=sign)
        for i in range(200):
            rgb = np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8)
            recorder.publish(Rendering(rgb, i, i / 30, None, None, True))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    path = tmp_path / "out.mp4"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(pictures(path)) >= 100
    assert report(path) == 1
    assert "a run that was killed" in capsys.readouterr().out


# Nothing is lost when it can't be signed


def test_a_recording_that_cannot_be_signed_is_kept_with_one_warning(tmp_path, own_folder, caplog):
    own_folder.mkdir(parents=True)
    (own_folder / "key.pem").write_text("no key")
    (own_folder / "certificates.pem").write_text("no certificates")
    path = record(tmp_path / "out.mp4", sign=RecordingSigner().sign)
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert warning == (
        f"{path} was recorded, but carries no content credentials: {own_folder}/certificates.pem holds no "
        f"certificates: expected PEM, the signer's own first. Delete {own_folder}: a new one is made."
    )
    assert len(pictures(path)) == 30
    assert [p.name for p in tmp_path.iterdir() if p.name != "config"] == ["out.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_without_room_for_the_signed_copy_keeps_the_recording(tmp_path):
    path = record(tmp_path / "out.mp4")
    before = path.read_bytes()
    code = f"""
        import resource, signal, sys
        from pathlib import Path
        from puppet.credentials import c2pa_file, identity
        from puppet.errors import CredentialsError
        identity.own_folder = lambda: Path(sys.argv[2])
        own = identity.own_identity()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, {len(before) // 2}))
        from puppet.credentials.manifest import recording_manifest
        from datetime import datetime
        try:
            c2pa_file.sign_file(Path(sys.argv[1]), recording_manifest("out.mp4", [], now=datetime.now()), own)
        except CredentialsError as error:
            print("kept:", error)
    """
    args = [sys.executable, "-c", textwrap.dedent(code), str(path), str(tmp_path / "own")]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("kept:"), done.stderr
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "own"]


def test_a_process_that_signs_and_dies_leaves_the_recording(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", "/bin/false" if Path("/bin/false").exists() else sys.executable)
    path = record(tmp_path / "out.mp4", sign=RecordingSigner().sign)
    assert "carries no content credentials: the process that signs ended with" in caplog.text
    assert len(pictures(path)) == 30


def test_a_recording_that_changes_meanwhile_is_left_alone(tmp_path, monkeypatch):
    path = record(tmp_path / "out.mp4")
    sign = c2pa_file._sign

    def slowly(manifest, who, kind, source, target):
        sign(manifest, who, kind, source, target)
        path.write_bytes(b"a new recording")

    monkeypatch.setattr(c2pa_file, "_sign", slowly)
    with pytest.raises(CredentialsError, match="changed while it was signed"):
        sign_here(path, [])
    assert path.read_bytes() == b"a new recording"


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and modes")
def test_links_and_modes_stay(tmp_path):
    (tmp_path / "disk").mkdir()
    path = record(tmp_path / "disk" / "out.mp4")
    path.chmod(0o640)
    (tmp_path / "link.mp4").symlink_to(path)
    sign_here(tmp_path / "link.mp4", [])
    assert (tmp_path / "link.mp4").is_symlink() and path.stat().st_mode & 0o777 == 0o640
    assert report(path) == 0


def test_stopping_a_recording_does_not_wait_for_its_signature(tmp_path):
    may_sign, signing = threading.Event(), threading.Event()

    def sign(path, portraits):
        signing.set()
        assert may_sign.wait(30)

    outputs = Outputs(size=SIZE, fps=30, is_live=True, sign=sign)
    rendering = Rendering(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), 0, 0.0, facs.rest(), facs.rest(), True)
    outputs.start_recording(tmp_path / "a.mp4")
    outputs.publish(rendering)
    outputs.stop_recording()
    assert signing.wait(30)
    outputs.start_recording(tmp_path / "b.mp4")
    outputs.publish(rendering)  # the show goes on
    may_sign.set()
    outputs.close()
    assert [len(pictures(tmp_path / name)) for name in ("a.mp4", "b.mp4")] == [1, 1]
    assert not outputs.failures


def test_two_recordings_of_one_second_get_two_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda pattern: "puppet-now")
    outputs = Outputs(size=SIZE, fps=30, is_live=True)
    for _ in range(3):
        outputs.start_recording()
        outputs.stop_recording()
    outputs.close()
    assert sorted(p.name for p in tmp_path.glob("*.mp4")) == ["puppet-now-2.mp4", "puppet-now-3.mp4", "puppet-now.mp4"]


# Who signs


def test_the_own_key_is_made_once_and_readable_by_its_user_only(own_folder):
    first = identity.own_identity()
    assert identity.own_identity() == first
    assert sorted(path.name for path in own_folder.parent.rglob("*")) == ["certificates.pem", "key.pem", "signing"]
    if sys.platform != "win32":
        assert (own_folder / "key.pem").stat().st_mode & 0o777 == 0o600
        assert own_folder.stat().st_mode & 0o777 == 0o700


def test_two_processes_that_make_a_key_at_once_agree(own_folder, monkeypatch):
    """The other one finishes while this one is at work."""
    make = identity._self_signed

    def slowly():
        made = make()
        monkeypatch.setattr(identity, "_self_signed", make)
        identity.own_identity()
        return made

    monkeypatch.setattr(identity, "_self_signed", slowly)
    first = identity.own_identity()
    assert first == identity.own_identity()
    assert [path.name for path in own_folder.parent.iterdir()] == ["signing"]


def test_a_configuration_that_cannot_be_written_is_told(own_folder):
    own_folder.parent.write_text("a file where a folder should be")
    with pytest.raises(InputError, match="no certificate to sign with could be made in"):
        identity.own_identity()


def test_another_machines_self_signed_certificate_is_called_that(signed, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(identity, "own_folder", lambda: tmp_path / "elsewhere" / "signing")
    assert report(signed) == 0
    assert "self-signed, not this machine's own. Nobody vouches for who that is" in capsys.readouterr().out
    identity.own_identity()
    assert report(signed) == 0
    assert "self-signed, not this machine's own" in capsys.readouterr().out


def certificate(key, *, purposes=(ExtendedKeyUsageOID.EMAIL_PROTECTION,), days=30, is_ca=False, began_days=1):
    now = datetime.now(UTC)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Studio"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Studio Ltd")]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=began_days))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_ca, None), True)
        .add_extension(identity._usage(digital_signature=True), True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), True)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def write_pair(folder, key, certificate, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem", folder / "key.pem"


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_users_own_certificate_signs(tmp_path, capsys, own_folder, kind):
    key = KEYS[kind]()
    pair = write_pair(tmp_path, key, certificate(key))
    path, signer = record(tmp_path / "out.mp4"), RecordingSigner(*pair)
    c2pa_file.sign_file(path, recording_manifest("a", [], now=datetime.now(UTC)), signer._identity)
    assert report(path) == 0
    out = capsys.readouterr().out
    assert "Studio, Studio Ltd. Whether that name is true was not checked" in out
    assert not own_folder.exists()


def wrong_pairs():
    key, other = KEYS["P-256"](), KEYS["P-256"]()
    curve, old = ec.generate_private_key(ec.SECP256K1()), certificate(key, days=-1, began_days=9)
    weak = dsa.generate_private_key(2048)
    yield "not a pair", other, certificate(key), None, "is not the key of the first certificate in"
    yield "encrypted", key, certificate(key), b"secret", "is encrypted: expected a private key without a passphrase"
    yield "over", key, old, None, "is valid from .* to .*, not today"
    yield "curve", curve, certificate(curve), None, "expected a key on P-256"
    yield "dsa", weak, certificate(weak), None, "is a DSAPrivateKey: expected a key on P-256"
    yield "purpose", key, certificate(key, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), None, "can't sign recordings"
    yield "authority", key, certificate(key, is_ca=True), None, "can't sign recordings"


@pytest.mark.parametrize("case", list(wrong_pairs()), ids=lambda case: case[0])
def test_a_certificate_that_cannot_sign_is_told_before_the_show_begins(tmp_path, case):
    _, key, chain, password, message = case
    pair = write_pair(tmp_path, key, chain, password)
    with pytest.raises(InputError, match=message) as error:
        RecordingSigner(*pair)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cert.pem", b"nothing", "cert.pem holds no certificates"),
        ("cert.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificates"),
        ("cert.pem", None, "cert.pem can't be read: No such file"),
        ("cert.pem", b"#" * 70_000, "longer than 64 KiB"),
        ("key.pem", b"nothing", "key.pem holds no private key"),
        ("key.pem", None, "key.pem can't be read: No such file"),
    ],
)
def test_files_that_are_no_certificate_or_key_are_told(tmp_path, capsys, name, content, message):
    key = KEYS["P-256"]()
    cert, private = write_pair(tmp_path, key, certificate(key))
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    assert cli.main(["--driver", "demo", "--output", "null", "--sign-cert", str(cert), "--sign-key", str(private)]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("flag", ["--sign-cert", "--sign-key"])
def test_certificate_and_key_belong_together(capsys, flag):
    assert cli.main(["--driver", "demo", flag, "a.pem"]) == 2
    assert "--sign-cert and --sign-key belong together" in capsys.readouterr().err


# What others put into files


def test_nothing_is_fetched_for_a_file_whose_credentials_lie_elsewhere(signed, tmp_path, capsys):
    import c2pa

    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    own = identity.own_identity()
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chain, key = own.certificates_pem.encode(), own.key_pem.encode()
        manifest = json.dumps(recording_manifest("out.mp4", [], now=datetime.now(UTC)))
        plain = record(tmp_path / "plain.mp4").read_bytes()
        with (
            c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None)) as signer,
            c2pa.Context.from_dict(dict(c2pa_file._SETTINGS)) as context,
            c2pa.Builder.from_json(manifest, context) as builder,
            open(tmp_path / "remote.mp4", "w+b") as target,
        ):
            builder.set_no_embed()
            builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/manifest.c2pa")
            builder.sign(signer, "video/mp4", io.BytesIO(plain), target)
        assert report(tmp_path / "remote.mp4") == 1
        assert asked == []
        # The same file with the library's defaults asks for it: the file is a real case.
        with pytest.raises(c2pa.C2paError), open(tmp_path / "remote.mp4", "rb") as file:
            c2pa.Reader("video/mp4", file)
        assert asked == ["/manifest.c2pa"]
        server.shutdown()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_signing_and_reading_open_no_socket(tmp_path, monkeypatch):
    """In Python; the library's own are switched off by its settings, as the test above shows."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    path = record(tmp_path / "out.mp4")
    sign_here(path, [ADA])
    assert report(path) == 0


def test_what_a_file_says_cannot_steer_the_terminal(tmp_path, capsys):
    path = record(tmp_path / "out.mp4")
    evil = Provenance("\x1b[2Jevil\n  valid\u202e.jpg" + "x" * 500, "00")
    sign_here(path, [evil])
    assert report(path) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and max(map(len, out.splitlines())) < 300
    assert r"\x1b[2Jevil\n  valid\u202e.jpg" in out


@pytest.mark.parametrize(
    "assertions",
    [
        [{"label": "puppet.portraits", "data": {"portraits": [1, None, {"consent": {"person": {}}}]}}],
        [{"label": "puppet.portraits", "data": {"portraits": "ada"}}],
        [{"label": "puppet.portraits", "data": {}}],
    ],
)
def test_other_shapes_in_a_manifest_are_read_without_failing(tmp_path, assertions):
    path = record(tmp_path / "out.mp4")
    manifest = recording_manifest("a", [], now=datetime.now(UTC))
    manifest["assertions"][1:] = assertions
    c2pa_file.sign_file(path, manifest, identity.own_identity())
    assert report(path) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.mp4", None, "can't be read: No such file"),
        ("notes.txt", b"text", "is no recording: expected a name that ends in .mp4"),
    ],
)
def test_a_file_that_is_no_recording_is_one_line(tmp_path, capsys, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert cli.main(["doctor", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(5000), b"\x00\x00\x00\x18ftypisom" + b"\xff" * 900])
def test_a_file_that_is_no_mp4_inside_is_not_valid(tmp_path, capsys, content):
    (tmp_path / "a.mp4").write_bytes(content)
    assert cli.main(["doctor", str(tmp_path / "a.mp4")]) == 1
    assert "valid, unchanged" not in capsys.readouterr().out


@pytest.mark.parametrize("args", [["a.mp4", "b.mp4"], ["--verify"], ["--now", "a.mp4"]])
def test_doctor_takes_one_recording(capsys, args):
    assert cli.main(["doctor", *args]) == 2
    assert "takes the name of one recording" in capsys.readouterr().err
