"""Consent notes: which one speaks for a portrait, what they may say, and that a run says it."""

import hashlib
from datetime import date

import pytest
from PIL import Image

from puppet import cli, facs
from puppet.consent import Consent, find_note
from puppet.errors import InputError
from puppet.gallery import demo_portrait
from puppet.openface import TrackWriter
from puppet.provenance import Provenance

NOTE = """
person = "Ada Lovelace"
allowed_by = "herself"
purpose = "our team's calls"
until = 2027-12-31
"""


@pytest.mark.parametrize(
    ("portrait", "files", "expected"),
    [
        ("ada.jpg", ["ada.jpg"], None),
        ("ada.jpg", ["ada.jpg", "ada.toml"], "ada.toml"),
        ("ada.jpg", ["ada.jpg", "portrait.toml"], "portrait.toml"),
        ("ada.jpg", ["ada.jpg", "ada.toml", "portrait.toml"], "ada.toml"),
        ("ada.jpg", ["ada.jpg", "portrait.PNG", "portrait.toml"], None),  # it is another picture's own
        ("portrait.PNG", ["ada.jpg", "portrait.PNG", "portrait.toml"], "portrait.toml"),
        ("ada.jpg", ["ada.jpg", "bob.toml"], None),
    ],
)
def test_a_pictures_own_note_speaks_for_it_else_the_folders(tmp_path, portrait, files, expected):
    for name in files:
        (tmp_path / name).touch()
    found = find_note(tmp_path / portrait)
    assert (found.name if found else None) == expected


def test_a_note_says_who_and_until_when(tmp_path):
    (tmp_path / "ada.toml").write_text(NOTE)
    consent = Consent.read(tmp_path / "ada.toml")
    assert consent == Consent("Ada Lovelace", "herself", "our team's calls", date(2027, 12, 31))
    assert str(consent) == "shows Ada Lovelace, allowed by herself, for our team's calls, until 2027-12-31"
    assert not consent.is_over(date(2027, 12, 31)) and consent.is_over(date(2028, 1, 1))
    assert not Consent("a", "b").is_over(date.max)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'person = "a"', "allowed_by is missing"),
        (b"", "person is missing"),
        (
            b'person = "a"\nallowed_by = "b"\nwho = "c"',
            "unknown key 'who'; expected person, allowed_by, purpose, until",
        ),
        (b'person = ""\nallowed_by = "b"', "person = '': expected one line of 1 to 200"),
        (b'person = 7\nallowed_by = "b"', "person = 7: expected one line"),
        (b'person = "a\\nFAKE LOG LINE"\nallowed_by = "b"', "expected one line"),
        (b'person = "\\u001b[2J"\nallowed_by = "b"', "expected one line"),
        (b'person = "' + b"a" * 201 + b'"\nallowed_by = "b"', "expected one line of 1 to 200"),
        (b'until = "2027-12-31"\nperson = "a"\nallowed_by = "b"', "until = '2027-12-31': expected a date"),
        (b'until = 2027-12-31T10:00:00\nperson = "a"\nallowed_by = "b"', "expected a date, as in 2027-12-31"),
        (b"until = 2027-13-31", "is not TOML"),
        (b"person = ", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"a = " + b"[" * 16_000, "is not TOML: nested too deeply"),
        (b"until = 1" + b"0" * 8_000, "is not TOML"),
        (b"#" * 16_385, "expected a TOML file of at most 16384 bytes"),
    ],
)
def test_a_note_that_cannot_be_used_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "ada.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        Consent.read(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(path)) + 400


def test_provenance_is_the_files_name_and_hash(tmp_path):
    (tmp_path / "ada.jpg").write_bytes(b"picture")
    (tmp_path / "portrait.toml").write_text(NOTE)
    provenance = Provenance.read(tmp_path / "ada.jpg")
    assert (provenance.file, provenance.sha256) == ("ada.jpg", hashlib.sha256(b"picture").hexdigest())
    assert provenance.consent.person == "Ada Lovelace"


@pytest.fixture
def run(tmp_path):
    """Run one frame with a portrait whose note says `until`; gives the exit code."""
    Image.open(demo_portrait()).save(tmp_path / "ada.png")
    writer = TrackWriter(tmp_path / "track.csv")
    writer.write(facs.rest(), frame=0, time_s=0, confidence=1, has_face=True)
    writer.close()

    def run(note):
        (tmp_path / "ada.toml").write_text(note)
        args = ["--target", str(tmp_path / "ada.png"), "--driver", str(tmp_path / "track.csv"), "--size", "128x128"]
        return cli.main([*args, "--as-fast-as-possible", "--output", "null"])

    return run


def test_a_run_says_whose_face_it_shows(run, caplog):
    caplog.set_level("INFO", "puppet")
    assert run(NOTE.replace("2027", "9999")) == 0
    assert "ada.png shows Ada Lovelace, allowed by herself, for our team's calls, until 9999-12-31" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_consent_that_has_ended_is_a_warning_and_the_show_goes_on(run, caplog):
    assert run(NOTE.replace("2027", "2020")) == 0
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("ada.png: herself allowed it to be animated until 2020-12-31, which has passed.")


def test_a_broken_note_ends_the_run_with_one_line(run, capsys):
    assert run("persn = 'Ada'") == 1
    error = capsys.readouterr().err
    assert "ada.toml: unknown key 'persn'" in error and "Traceback" not in error
