"""Files that are absurd on purpose, one by one; and what people really have, which must still load."""

import io
import os
import struct
import threading
import zipfile
import zlib

import av
import numpy as np
import pytest
from fuzz.targets import _clip, _onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageOps

from engines import EngineCache, EngineError
from engines import load as load_engine
from engines.golden import golden_for
from engines.model_file import ModelFile
from puppet import cli, picture_parts
from puppet.capture import Frame, open_driver
from puppet.capture.images import ImageFolder
from puppet.capture.pace import LONGEST_GAP_S, without_gaps
from puppet.capture.video import VideoFile
from puppet.errors import MAX_LINE, ConfigError, InputError, PortraitError, one_line
from puppet.gallery import portrait_paths
from puppet.openface import AU_COLUMNS, MAX_COLUMNS, read_track
from puppet.picture import decode
from puppet.portrait import Portrait
from puppet.rig import LandmarkRig

NODES = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
WEIGHT = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")


def noise(height=30, width=20, channels=3):
    return np.random.default_rng(0).integers(0, 255, (height, width, channels), np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + chunk(b"IEND", b"")


# Pictures.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phones_picture_is_turned_as_its_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(300, 20)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), expected)


def test_a_broken_exif_leaves_the_picture_as_it_is(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert decode(tmp_path / "a.jpg").shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "MPO", {"save_all": True, "append_images": [Image.fromarray(noise())]}),
        ("CMYK", "JPEG", {}),
        ("L", "JPEG", {}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {"save_all": True, "append_images": [Image.fromarray(noise(channels=4))]}),
        ("1", "PNG", {}),
        ("RGB", "WEBP", {"save_all": True, "append_images": [Image.fromarray(noise())]}),
        ("RGB", "BMP", {}),
        ("RGB", "AVIF", {}),
        ("RGB", "JPEG", {"icc_profile": bytes(4_000_000)}),
    ],
)
def test_what_cameras_and_programs_write_is_read(tmp_path, mode, form, options):
    if form == "AVIF" and not pillow_has_avif():
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(noise()).convert(mode).save(tmp_path / "a.jpg", form, **options)
    rgb = decode(tmp_path / "a.jpg")
    assert rgb.shape == (30, 20, 3) and rgb.dtype == np.uint8 and rgb.std() > 20


def pillow_has_avif():
    Image.init()
    return "AVIF" in Image.SAVE


def test_16_bit_grey_keeps_its_light_and_shade(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png")[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]


def test_24_megapixels_are_read(tmp_path):
    Image.new("RGB", (6000, 4000), (10, 20, 30)).save(tmp_path / "a.jpg")
    assert decode(tmp_path / "a.jpg").shape == (4000, 6000, 3)


@pytest.mark.parametrize("size", [(1, 1), (100_000, 1), (1, 100_000), (100_000, 20)])
def test_a_strip_has_no_face(tmp_path, size):
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(PortraitError, match="no face found"):
        Portrait.load(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
        (b"<!doctype html><img src=a.jpg>", "is not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture.* Save it as JPEG"),
        (png(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(99_000_000)))), "is damaged|is not a picture"),
        (png()[:16] + struct.pack(">II", 0, 0) + png()[24:], "is damaged|is not a picture"),
        (png()[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + png()[24:], "is damaged|is not a picture"),
        (b"\xff\xd8" + b"\xff" * (picture_parts.MAX_SEGMENTS + 9), "more than 20000 segments"),
        (png(*[chunk(b"teSt", b"")] * (picture_parts.MAX_CHUNKS + 1)), "more than 100000 chunks"),
    ],
)
def test_what_only_poses_as_a_picture(tmp_path, content, message):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=message):
        decode(tmp_path / "a.jpg")


def test_a_jpeg_of_endless_passes_is_refused_before_it_is_decoded(tmp_path):
    file = io.BytesIO()
    Image.fromarray(noise()).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(data[:-2] + last * picture_parts.MAX_SCANS + data[-2:])
    with pytest.raises(InputError, match="more than 100 scans"):
        decode(tmp_path / "a.jpg")


# Clips.


def test_a_4k_clip_is_read(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(3840, 2160, "yuv420p")))
        container.mux(stream.encode(None))
    (frame,) = VideoFile(path).frames()
    assert frame.rgb.shape == (540, 960, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        b"just some text that FFmpeg would play as a teletype\n" * 50,
    ],
)
def test_playlists_and_text_are_no_clips(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match="can't be read as a video"):
        VideoFile(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["concat:a|b.mp4", "-i.mp4", "ü b\n.mp4", os.fsdecode(b"\xff\xfe.mp4"), "%03d.mp4"])
def test_odd_names_are_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with open(name, "wb") as file:
        file.write(_clip("mp4", "libx264", "yuv420p"))
    driver = open_driver(name, camera_size=(640, 480), fps=None)
    assert len(list(driver.frames())) == 8


def test_a_clip_whose_pictures_change_size(tmp_path):
    parts = []
    for size in ((64, 48), (128, 32)):
        file = io.BytesIO()
        with av.open(file, "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame(*size, "yuv420p")))
            container.mux(stream.encode(None))
        parts.append(file.getvalue())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    shapes = {frame.rgb.shape for frame in VideoFile(tmp_path / "a.ts").frames()}
    assert shapes == {(48, 64, 3), (32, 128, 3)}


def test_a_clip_with_sixteen_thousand_pixels_a_side_is_refused(tmp_path):

    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16_000, 4_000, "gray"
        container.mux(stream.encode(av.VideoFrame(16_000, 4_000, "gray")))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"none of its frames can be decoded|can't be read as a video"):
        list(VideoFile(tmp_path / "a.mov").frames())


def frames_at(times):
    return [Frame(np.zeros((2, 2, 3), np.uint8), i, t, 0.0) for i, t in enumerate(times)]


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1, 1e9, 1e9 + 1], [0, 1, 1 + LONGEST_GAP_S, 2 + LONGEST_GAP_S]),
        ([95_000, 95_001], [0, 1]),
    ],
)
def test_a_clock_that_jumps_does_not_stop_the_show(times, shown):
    assert [f.time_s for f in without_gaps(frames_at(times), "a clip")] == pytest.approx(shown)


# Tracks.


def write_track(path, rows, header=("timestamp", *AU_COLUMNS)):
    path.write_text("\n".join([",".join(header), *rows]) + "\n")
    return path


def test_columns_that_nobody_reads_cost_no_memory_and_are_not_looked_at(tmp_path):
    header = ("timestamp", *AU_COLUMNS, *(f"x_{i}" for i in range(700)))
    rows = [",".join([str(i / 30), *["1"] * 17, *["?"] * 700]) for i in range(3)]
    assert read_track(write_track(tmp_path / "a.csv", rows, header)).control.shape[0] == 3


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ((*AU_COLUMNS, *(f"p_{i}" for i in range(MAX_COLUMNS))), f"expected at most {MAX_COLUMNS}"),
        (("x" * 9_000,), "unknown columns xxx"),
    ],
)
def test_absurd_headers(tmp_path, header, message):
    with pytest.raises(InputError, match=message) as error:
        read_track(write_track(tmp_path / "a.csv", ["1"], header))
    assert len(str(error.value)) <= MAX_LINE


@pytest.mark.parametrize(("step_s", "fps"), [(1e-9, 240), (1e-3, 240), (60.0, 1), (1 / 25, 25)])
def test_a_tracks_rate_is_one_that_can_be_shown(tmp_path, step_s, fps):
    rows = [",".join([repr(i * step_s), *["1"] * 17]) for i in range(5)]
    assert read_track(write_track(tmp_path / "a.csv", rows)).fps == pytest.approx(fps)


# Paths.


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["a.jpg", "a.csv", "a.mp4", "a.toml"])
def test_a_pipe_is_refused_before_it_blocks(tmp_path, name):
    os.mkfifo(tmp_path / name)
    read = {"a.toml": lambda path: cli.parse(["--config", path])}.get(
        name, lambda path: open_driver(path, camera_size=(640, 480), fps=None)
    )
    refused = threading.Event()

    def attempt():
        with pytest.raises((InputError, ConfigError), match="pipe or a device"):
            read(str(tmp_path / name))
        refused.set()

    threading.Thread(target=attempt, daemon=True).start()
    assert refused.wait(10)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a\0b.jpg", "a\nb\x1b[2J.jpg", os.fsdecode(b"\xff\xfe.jpg"), "\u202egpj.a"]
)
@pytest.mark.parametrize("flag", ["--target", "--driver", "--config"])
def test_a_name_that_cannot_be_opened_is_one_line(capsys, name, flag):
    target = [] if flag == "--target" else ["--target", "a.jpg"]
    driver = ["--driver", "demo"] if flag == "--target" else []
    code = cli.main([f"{flag}={name}", *target, *driver, "--output", "null", "--as-fast-as-possible"])
    shown = capsys.readouterr().err
    assert code in (1, 2) and shown.count("\n") == 1 and shown[:-1].isprintable() and len(shown) < 1200


def test_links_in_a_circle(tmp_path):
    try:
        (tmp_path / "a.jpg").symlink_to(tmp_path / "a.jpg")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(InputError, match="can't be opened"):
        portrait_paths(str(tmp_path / "a.jpg"))
    assert portrait_paths(str(tmp_path)) == [tmp_path / "a.jpg"]
    with pytest.raises(InputError):
        list(ImageFolder(tmp_path, fps=10).frames())


def test_hidden_files_are_no_pictures(tmp_path):
    for name in ("._a.jpg", "a.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert portrait_paths(str(tmp_path)) == [tmp_path / "a.jpg"]


def test_a_message_keeps_its_start_and_its_end_and_nothing_that_does_not_print():
    line = one_line("\u202ename\n" + "x" * 9_000 + " Check the path.")
    assert line.startswith("\\u202ename\\n") and line.endswith("Check the path.")
    assert len(line) <= MAX_LINE and line.isprintable()


# Options.


@pytest.mark.parametrize(
    "content",
    [
        b"a" + b".a" * 5_000 + b" = 1",
        b"fps = " + b"[" * 5_000,
        b"fps = " + b"9" * 5_000,
        b"fps = " + b"9" * 400,
        b"face = 0x" + b"f" * 5_000,
        b"fps = nan",
        b"[fps]\na = 1",
        b'target = "a\\u0000b"',
        b"\xff\xfe",
        b"#" * 20_000,
    ],
)
def test_absurd_options_are_one_line_and_exit_code_2(tmp_path, capsys, content):
    (tmp_path / "a.toml").write_bytes(content)
    code = cli.main(["--config", str(tmp_path / "a.toml"), "--driver", "demo", "--dry-run"])
    shown = capsys.readouterr()
    assert code == 2 and shown.out == "" and shown.err.count("\n") == 1 and len(shown.err) < 1200


# Models.


def model(tmp_path, nodes=NODES, weights=(WEIGHT,), **options):
    path = tmp_path / "a.onnx"
    path.write_bytes(_onnx(nodes, list(weights), **options))
    return path


def outside():
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


BRANCH = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "b", [], [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [outside()]}, "weights are in another file"),
        (
            {"nodes": [helper.make_node("Constant", [], ["w"], value=outside()), *NODES], "weights": []},
            "weights are in another file",
        ),
        ({"weights": [TensorProto(name="w", data_type=1, dims=[1 << 40, 3], raw_data=bytes(48))]}, "of another shape"),
        ({"weights": [TensorProto(name="w", data_type=1, dims=[4, 3], raw_data=bytes(8))]}, "of another shape"),
        ({"weights": [TensorProto(name="w", data_type=1, dims=[1 << 40])]}, "of another shape"),
        ({"shape": ["batch", 1 << 40]}, "absurd size"),
        ({"shape": ["batch", -4]}, "absurd size"),
        ({"nodes": [helper.make_node("If", ["x"], ["y"], then_branch=BRANCH, else_branch=BRANCH)]}, "loops, branches"),
    ],
)
def test_models_that_claim_too_much_are_refused_before_a_library_sees_them(tmp_path, options, message):
    with pytest.raises(EngineError, match=message):
        ModelFile.read(model(tmp_path, **options))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize(
    ("damage", "options"),
    [
        ("an operator of nobody", {"nodes": [helper.make_node("Foreign", ["x"], ["y"], domain="of.no.one")]}),
        ("a loop of names", {"nodes": [helper.make_node("Relu", ["y"], ["y"])]}),
        ("an input that is not there", {"nodes": [helper.make_node("Relu", ["none"], ["y"])]}),
        ("a type of nobody", {"weights": [TensorProto(name="w", data_type=95, dims=[4, 3], raw_data=bytes(48))]}),
    ],
)
def test_models_that_no_engine_runs_are_one_line(tmp_path, backend, damage, options):
    if backend == "torch":
        pytest.importorskip("torch")
    path, cache = model(tmp_path, **options), EngineCache(tmp_path / "cache")
    with pytest.raises(EngineError) as error:
        load_engine(path, backend=backend, device="cpu", cache=cache)
    assert str(error.value).isprintable() and len(str(error.value)) <= MAX_LINE


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize("name", [b"x", b"Relu"])
def test_names_that_are_no_text_are_one_line(tmp_path, backend, name):
    if backend == "torch":
        pytest.importorskip("torch")
    path = model(tmp_path)
    size = bytes([len(name)])
    path.write_bytes(path.read_bytes().replace(size + name, size + b"\xff" * len(name)))
    with pytest.raises(EngineError):
        load_engine(path, backend=backend, device="cpu", cache=EngineCache(tmp_path / "cache"))


def test_a_golden_file_that_unpacks_without_end_is_refused(tmp_path):
    path = model(tmp_path)
    with zipfile.ZipFile(path.with_suffix(".golden.npz"), "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3)})
        archive.writestr("in:x.npy", header.getvalue() + bytes(64))
    with pytest.raises(EngineError, match="claims more than it has"):
        golden_for(ModelFile.read(path), {}, None)


def test_a_side_car_nested_without_end_counts_as_damaged(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[" * 100_000)
    (tmp_path / "b.json").write_bytes(b'{"key": [1]}')
    assert [entry.content for entry in EngineCache(tmp_path).entries()] == [{}, {}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:4], "it is cut or damaged|can't be read"),
        (lambda data: data[:9000], "can't be read"),
        (lambda data: b"\xff" * 8 + data[8:], "it is cut or damaged"),
        (lambda data: (1 << 40).to_bytes(8, "little") + data[8:], "it is cut or damaged"),
        (lambda data: data.replace(b'"mean_cm"', b'"meat_cm"'), "has no mean_cm"),
        (lambda data: data.replace(b'"shape":[593,3]', b'"shape":[3,593]'), "not F16 or F32"),
        (lambda data: data[:-400] + b"\xff\x7f" * 200, "can't be read"),
    ],
)
def test_a_rig_that_is_damaged_is_one_line(tmp_path, change, message):
    from puppet.rig import DEFAULT_PATH

    (tmp_path / "rig.safetensors").write_bytes(change(DEFAULT_PATH.read_bytes()))
    with pytest.raises(InputError, match=message):
        LandmarkRig.load(tmp_path / "rig.safetensors")
