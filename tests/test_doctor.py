from functools import partial

import pytest

from puppet import doctor, install
from puppet.capture.devices import CaptureDevice


@pytest.mark.parametrize(
    ("os_release", "command"),
    [
        ("ID=ubuntu\nID_LIKE=debian\n", "sudo apt install v4l2loopback-dkms"),
        ('ID="fedora"\n', "sudo dnf install akmod-v4l2loopback"),
        ("ID=manjaro\nID_LIKE=arch\n", "sudo pacman -S v4l2loopback-dkms linux-headers"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "sudo zypper install"),
        ("", "sudo apt install"),
    ],
)
def test_the_line_for_a_virtual_camera_is_the_systems_own(os_release, command):
    line = install.virtual_camera("linux", os_release)
    assert line.startswith(command)
    assert 'card_label="Puppet"' in line


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("darwin", ("brew install --cask obs", "30 or later", "camera extension")),
        ("win32", ("winget install OBSProject.OBSStudio", "Start Virtual Camera", "Unity Capture")),
        ("freebsd", ("pyvirtualcam",)),
    ],
)
def test_other_systems_have_a_line_too(platform, words, monkeypatch):
    monkeypatch.setattr(install, "virtual_camera", partial(install.virtual_camera, platform))
    check = doctor._cameras([])[1]
    assert (check.name, check.found, check.is_needed) == ("virtual camera", "no driver", False)
    assert all(word in check.fix for word in words)


def test_doctor_prints_a_fix_for_everything_that_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "list_cameras", list)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(doctor, "_libraries", list)
    assert doctor.doctor([]) == 0
    out = capsys.readouterr().out
    assert "v4l2loopback" in out or "OBS" in out
    assert "--driver demo" in out
    assert "Ready. Without" in out


def test_a_model_that_is_missing_fails(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "MODELS", ("none.onnx",))
    monkeypatch.setattr(doctor, "_libraries", list)
    assert doctor.doctor([]) == 1
    assert "none.onnx missing" in capsys.readouterr().out


def test_devices_lists_cameras_and_keeps_ours_apart(monkeypatch, capsys):
    cameras = [
        CaptureDevice(0, "HD Webcam", "/dev/video0"),
        CaptureDevice(9, "Puppet", "/dev/video9", is_own=True, is_loopback=True),
    ]
    monkeypatch.setattr(doctor, "list_cameras", lambda: cameras)
    assert doctor.devices([]) == 0
    real, virtual = capsys.readouterr().out.split("Virtual cameras")
    assert "camera:0  HD Webcam" in real and "Puppet" not in real
    assert "/dev/video9  Puppet" in virtual


def test_a_camera_without_permission_names_the_group(tmp_path, monkeypatch):
    path = str(tmp_path / "none")
    check = doctor._cameras([CaptureDevice(0, "HD Webcam", path)])[0]
    assert "no permission" in check.found and "usermod -aG video" in check.fix


def test_a_virtual_camera_without_permission_names_the_group(tmp_path):
    camera = CaptureDevice(9, "Puppet", str(tmp_path / "none"), is_own=True, is_loopback=True)
    check = doctor._cameras([camera])[1]
    assert check.name == "virtual camera" and "no permission" in check.found and "usermod -aG video" in check.fix


@pytest.mark.parametrize("name", ["Puppet", "Dummy video device (0x0000)"])
def test_a_loopback_that_nobody_feeds_is_a_virtual_camera_and_no_camera(name, monkeypatch, capsys):
    cameras = [CaptureDevice(9, name, "/dev/video9", name == "Puppet", is_loopback=True, can_capture=False)]
    monkeypatch.setattr(doctor, "list_cameras", lambda: cameras)
    assert doctor.devices([]) == 0
    real, virtual = capsys.readouterr().out.split("Virtual cameras")
    assert "none found" in real and f"/dev/video9  {name}" in virtual
