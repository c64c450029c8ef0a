"""The command line with the real tracker, regressor and generator, on clips made from the demo portrait."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from puppet import cli, facs
from puppet.gallery import demo_portrait
from puppet.openface import TrackWriter, read_track

FRAMES = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The portrait's face, moving a little, with times that are not regular."""
    path = tmp_path_factory.mktemp("clip") / "driver.mp4"
    face = Image.open(demo_portrait()).crop((90, 0, 346, 256)).resize((384, 384))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 384
        stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(np.asarray(face.rotate(i)), format="rgb24")
            picture.pts, picture.time_base = 40 * i + (20 if i > 4 else 0), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def frames_of(path):
    with av.open(str(path)) as container:
        return [(round(f.time, 3), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def test_a_clip_comes_out_frame_for_frame_and_its_log_plays_back_exactly(clip, tmp_path):
    first, log, stats, second = (tmp_path / name for name in ("a.mp4", "log.csv", "s.json", "b.mp4"))
    common = ["--target", str(demo_portrait()), "--framing", "head", "--size", "256x256", "--as-fast-as-possible"]
    recording = ["--record", str(first), "--au-log", str(log), "--stats", str(stats)]
    assert cli.main([*common, "--driver", str(clip), *recording]) == 0
    rendered = frames_of(first)
    assert [t for t, _ in rendered] == [t for t, _ in frames_of(clip)]
    assert rendered[0][1].shape == (256, 256, 3)

    report = json.loads(stats.read_text())
    assert report["frames"] == {"in": FRAMES, "out": FRAMES, "dropped": 0, "without_face": 0, "errors": 0}
    assert {"track", "estimate", "render", "publish"} <= set(report["stages_ms"])
    assert report["engine"]["model"] == "au_regressor.onnx"

    track = read_track(log)
    assert track.success.all() and len(track.control) == FRAMES
    roll = track.control[:, facs.INDEX["roll_rad"]]
    assert roll[-1] < roll[0] - 0.02  # turned counter-clockwise in the picture: to the right shoulder

    assert cli.main([*common, "--driver", str(log), "--record", str(second)]) == 0
    for (_, before), (_, after) in zip(rendered, frames_of(second), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_track_with_another_rate_keeps_its_length(tmp_path):
    writer = TrackWriter(tmp_path / "track.csv")
    for i in range(10):
        writer.write(facs.control(AU26=i / 2), frame=i, time_s=i / 10, confidence=1, has_face=True)
    writer.close()
    out = tmp_path / "out.mp4"
    args = ["--driver", str(tmp_path / "track.csv"), "--target", str(demo_portrait()), "--size", "128x128"]
    assert cli.main([*args, "--as-fast-as-possible", "--fps", "20", "--record", str(out)]) == 0
    times = [t for t, _ in frames_of(out)]
    assert times == pytest.approx([i / 20 for i in range(19)], abs=1e-3)


def test_a_clip_without_a_face_is_one_line_and_exit_code_1(tmp_path, caplog):
    path, out = tmp_path / "grey.mp4", tmp_path / "out.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 128
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((128, 128, 3), 99, np.uint8))))
        container.mux(stream.encode(None))
    args = ["--driver", str(path), "--target", str(demo_portrait()), "--size", "128x128", "--record", str(out)]
    assert cli.main([*args, "--as-fast-as-possible"]) == 1
    assert "no face was found in the 4 frames of" in caplog.text
    assert len(frames_of(out)) == 4


def test_no_display_and_no_virtual_camera_still_record(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("DISPLAY", raising=False)
    writer = TrackWriter(tmp_path / "track.csv")
    writer.write(facs.rest(), frame=0, time_s=0, confidence=1, has_face=True)
    writer.close()
    args = ["--driver", str(tmp_path / "track.csv"), "--target", str(demo_portrait()), "--size", "128x128"]
    assert cli.main([*args, "--output", "preview", "--record", str(tmp_path / "out.mp4")]) == 0
    assert "no preview: DISPLAY is not set" in caplog.text
    assert cli.main([*args, "--output", "preview"]) == 1
