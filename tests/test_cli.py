import subprocess
import sys

import pytest

from puppet import assembly, cli, config
from puppet.errors import ConfigError


def test_help_names_every_flag_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom puppet.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'mediapipe', 'torch', 'onnxruntime', 'openvino', 'cv2', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for flag in (
        "--target", "--driver", "--output", "--record", "--au-log", "--size", "--fps", "--gain", "--mute", "--head",
        "--mirror", "--engine", "--device", "--as-fast-as-possible", "--stats", "--face", "--texture", "--config",
        "--dry-run", "--debug",
    ):  # fmt: skip
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "--target is missing"),
        ("--target a.jpg --gain AU12", "expected NAME=NUMBER"),
        ("--target a.jpg --gain AU99=1", "unknown action 'AU99'"),
        ("--target a.jpg --gain AU12=nan", "expected a number from 0 to 10"),
        ("--target a.jpg --mute smile", "unknown action 'smile'"),
        ("--target a.jpg --head 2", "expected 0 .no head motion. to 1"),
        ("--target a.jpg --size 512", "expected WxH"),
        ("--target a.jpg --size 511x512", "expected even sides"),
        ("--target a.jpg --size 10x10", "expected even sides of 64"),
        ("--target a.jpg --fps 0", "expected 1 to 240"),
        ("--target a.jpg --output obs", "expected virtualcam"),
        ("--target a.jpg --output preview:2", "expected virtualcam"),
        ("--target a.jpg --record out.avi", "ends in .mp4"),
        ("--target a.jpg --driver camera:front", "expected camera or camera:N"),
        ("--target a.jpg --as-fast-as-possible", "needs a file"),
        ("--target a.jpg --face -1", "expected 0"),
        ("--target a.jpg --config none.toml", "none.toml does not exist"),
        ("devices now", "takes no arguments"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(capsys, args, message):
    assert cli.main(args.split()) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    with pytest.raises(AssertionError):
        assert "Traceback" in error
    import re

    assert re.search(message, error)


def test_an_unknown_flag_ends_with_2(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--targett", "a.jpg"])
    assert end.value.code == 2


@pytest.mark.parametrize("args", ["--driver demo --target none.jpg", "--driver none.mp4 --target none.jpg"])
def test_a_missing_file_is_one_line_and_exit_code_1(capsys, args):
    assert cli.main([*args.split(), "--output", "null"]) == 1
    assert "no such file" in capsys.readouterr().err


def test_toml_lies_between_defaults_and_flags(tmp_path):
    path = tmp_path / "puppet.toml"
    path.write_text('target = "a.jpg"\nfps = 25\nhead = 0.5\nau-log = "x.csv"\nmirror = true\ngain = ["AU12=2"]\n')
    options = cli.parse(["--config", str(path), "--head", "0.25", "--gain", "AU04=3", "--gain", "AU45=1"])
    assert options.publish.fps == 25
    assert options.retarget.head == 0.25
    assert options.retarget.mirror is True
    assert str(options.publish.au_log) == "x.csv"
    assert options.retarget.gain == ("AU04=3", "AU45=1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tarqet = 'a.jpg'", "unknown option 'tarqet'"),
        ("fps = 'fast'", "fps = 'fast': expected float"),
        ("texture = 'maybe'", "expected auto, on, off"),
        ("gain = 'AU12=2'", "gain = 'AU12=2'"),
        ("face = true", "face = True: expected int"),
        ("fps = ", "is not TOML"),
    ],
)
def test_a_wrong_toml_is_told_with_its_key(tmp_path, text, message):
    path = tmp_path / "puppet.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        cli.parse(["--config", str(path)])


def test_dry_run_prints_the_plan_and_opens_nothing(capsys):
    assert cli.main("--target none.jpg --driver none.mp4 --record out.mp4 --dry-run".split()) == 0
    out = capsys.readouterr().out
    assert "none.mp4" in out and "out.mp4" in out


@pytest.mark.parametrize(("args", "framing"), [("--driver demo", "head"), ("--target a.jpg", "full")])
def test_only_the_demo_portrait_is_cut_to_the_head(args, framing):
    assert assembly.framing_of(cli.parse(args.split())) == framing


def test_every_default_passes_its_own_check():
    options = config.with_values(config.Options(), {"target": "a.jpg"}, "test")
    assert config.check(options) is options


def test_a_reader_that_has_read_enough_is_no_error():
    code = (
        "import sys, types; from puppet import cli; noise = types.ModuleType('noise');"
        "noise.make = lambda args: print('x\\n' * 200_000); sys.modules['noise'] = noise;"
        "cli.COMMANDS['noise'] = 'noise:make'; sys.exit(cli.main(['noise']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "x\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 141
    process.stderr.close()
