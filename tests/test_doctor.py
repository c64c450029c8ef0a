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


@pytest.mark.parametrize(("platform", "word"), [("darwin", "brew"), ("win32", "winget"), ("freebsd", "pyvirtualcam")])
def test_other_systems_have_a_line_too(platform, word):
    assert word in install.virtual_camera(platform)


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
