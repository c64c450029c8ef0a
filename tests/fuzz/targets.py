"""What is attacked: a reader, valid files to begin with, and what has to hold of anything it accepts."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from puppet import facs
from puppet.errors import MAX_LINE, EngineError, PuppetError

from .mutate import repair_png


@dataclass(frozen=True)
class Target:
    """One reader. `attack(path)` reads a file and asserts what holds of everything that is accepted."""

    suffix: str
    seeds: Callable[[], Sequence[bytes]]
    attack: Callable[[Path], None]
    tokens: Sequence[bytes] = ()
    repair: Callable[[bytes], bytes] | None = None


def execute(target: Target, data: bytes, folder: Path) -> bool:
    """Whether `data` was accepted; AssertionError, or whatever else was thrown, where the property does not hold."""
    path = folder / f"input{target.suffix}"
    path.write_bytes(data)
    try:
        target.attack(path)
    except (PuppetError, EngineError) as error:
        line = str(error)
        assert line.isprintable() and 0 < len(line) <= MAX_LINE, f"not one short line: {line!r}"
        return False
    return True


def _pictures() -> list[bytes]:
    random = np.random.default_rng(0)
    rgb = random.integers(0, 255, (24, 20, 3), np.uint8)
    picture, exif = Image.fromarray(rgb), Image.Exif()
    exif[0x0112] = 6
    made = [
        (picture, "JPEG", {"exif": exif, "icc_profile": bytes(300), "comment": b"c"}),
        (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture.convert("L"), "JPEG", {}),
        (picture, "PNG", {"exif": exif, "icc_profile": bytes(300)}),
        (picture.convert("P"), "PNG", {"transparency": 3}),
        (picture.convert("RGBA"), "PNG", {"save_all": True, "append_images": [picture.convert("RGBA")]}),
        (Image.fromarray(random.integers(0, 65535, (9, 8), np.uint16)), "PNG", {}),
        (picture.convert("1"), "PNG", {}),
        (picture, "WEBP", {"exif": exif}),
        (picture, "WEBP", {"lossless": True, "save_all": True, "append_images": [picture]}),
        (picture, "BMP", {}),
        (picture.convert("P"), "BMP", {}),
        (picture, "AVIF", {"exif": exif}),
        (picture, "MPO", {"save_all": True, "append_images": [picture]}),
    ]
    return [_saved(*each) for each in made] + [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html></html>"]


def _saved(picture: Image.Image, form: str, options: dict) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def _attack_picture(path: Path) -> None:
    from puppet.picture import MAX_MEGAPIXELS, decode

    rgb = decode(path)
    assert rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8
    assert 0 < rgb.shape[0] * rgb.shape[1] <= MAX_MEGAPIXELS * 1e6


_CLIPS = (
    ("mp4", "libx264", "yuv420p"), ("matroska", "libx264", "yuv420p"), ("webm", "libvpx", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"), ("mpegts", "mpeg2video", "yuv420p"), ("gif", "gif", "rgb8"),
    ("mov", "png", "rgb24"), ("flv", "flv", "yuv420p"), ("nut", "ffv1", "yuv420p"),
)  # fmt: skip


def _clips() -> list[bytes]:
    return [_clip(*each) for each in _CLIPS] + [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
    ]


def _clip(form: str, codec: str, pixels: str, count: int = 8) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        for i in range(count):
            rgb = np.full((32, 48, 3), 20 + 20 * i, np.uint8)
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


def _attack_clip(path: Path) -> None:
    from puppet.capture.pace import LONGEST_GAP_S
    from puppet.capture.video import FPS_RANGE, TRACKING_SIDE_PX, VideoFile

    video = VideoFile(path)
    assert video.fps is None or FPS_RANGE[0] <= video.fps <= FPS_RANGE[1]
    last_s = None
    for frame in islice(video.frames(), 200):
        assert frame.rgb.dtype == np.uint8 and frame.rgb.shape[2] == 3
        assert 0 < min(frame.rgb.shape[:2]) and max(frame.rgb.shape[:2]) <= TRACKING_SIDE_PX
        assert np.isfinite(frame.time_s)
        assert last_s is None or 0 < frame.time_s - last_s <= LONGEST_GAP_S + 1e-3
        last_s = frame.time_s
    video.close()


def _tracks() -> list[bytes]:
    from puppet.openface import AU_COLUMNS, HEADER

    names = ["frame", "face_id", "timestamp", "confidence", "success", "gaze_angle_x", "gaze_angle_y", "pose_Tx",
             "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz", *AU_COLUMNS, "AU28_c"]  # fmt: skip
    openface = [", ".join(names)] + [
        ", ".join(str({"timestamp": i / 25, "success": 1, "pose_Tz": 600}.get(n, 0.5)) for n in names) for i in range(4)
    ]
    rest = dict(zip(facs.NAMES, facs.REST, strict=True))
    own = [",".join(HEADER)] + [
        ",".join(str({"timestamp": i / 30, **rest}.get(n, 0)) for n in HEADER) for i in range(4)
    ]
    return ["\n".join(lines).encode() for lines in (openface, own)] + [("\ufeff" + "\r\n".join(openface)).encode()]


def _attack_track(path: Path) -> None:
    from puppet.openface import FPS_RANGE, read_track

    track = read_track(path)
    assert track.control.shape == (len(track.time_s), facs.SIZE) and track.control.dtype == np.float32
    assert (track.control >= facs.LOW).all() and (track.control <= facs.HIGH).all()
    assert (np.diff(track.time_s) > 0).all() and np.isfinite(track.time_s).all()
    assert FPS_RANGE[0] <= track.fps <= FPS_RANGE[1]
    assert ((track.confidence >= 0) & (track.confidence <= 1)).all()


def _onnx_models() -> list[bytes]:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    plain = _onnx(nodes, [weight])
    outside = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../etc/passwd")
    huge = TensorProto(name="w", data_type=1, dims=[1 << 40, 3], raw_data=bytes(48))
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "b", [], [])
    return [
        plain,
        _onnx(nodes, [weight], shape=["batch", 1 << 40]),
        _onnx(nodes, [weight], shape=["batch", -4]),
        _onnx(nodes, [outside]),
        _onnx(nodes, [huge]),
        _onnx([helper.make_node("Constant", [], ["w"], value=outside), *nodes], []),
        _onnx([helper.make_node("Constant", [], ["w"], value=weight), *nodes], []),
        _onnx([helper.make_node("If", ["x"], ["w"], then_branch=branch, else_branch=branch), *nodes], []),
        _onnx([helper.make_node("Relu", [f"n{i}"], [f"n{i + 1}"]) for i in range(300)], [weight]),
        _onnx([helper.make_node("Foreign", ["x"], ["y"], domain="of.no.one")], [weight]),
        _onnx(nodes, [weight], opset=1),
        _onnx(nodes, [weight], opset=9999),
    ]


def _onnx(nodes: list, weights: list, *, shape: Sequence = ("batch", 4), opset: int = 17) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"licence": "MIT", "tolerance_fp16": "0.1"})
    return model.SerializeToString()


def _attack_model_file(path: Path) -> None:
    from engines.model_file import MAX_ELEMENTS, ModelFile

    model = ModelFile.read(path)
    assert len(model.sha256) == 64 and 0 <= model.input_elements <= MAX_ELEMENTS


def _attack_engine(path: Path, backend: str) -> None:
    import engines

    cache = engines.EngineCache(path.with_name("cache"))
    engine = engines.load(path, backend=backend, device="cpu", cache=cache)
    engine.close()
    cache.clean()


@functools.cache
def _packaged(name: str) -> bytes:
    from puppet import rig

    return (rig.DEFAULT_PATH.parent / name).read_bytes()


def _tensor_files() -> list[bytes]:
    from safetensors.numpy import save

    eye = {"mean_cm": np.ones((4, 3), np.float32), "empty": np.zeros((0, 3), np.float16)}
    packaged = ("landmark_rig.safetensors", "mouth.safetensors", "folds.safetensors")
    return [*map(_packaged, packaged), save(eye, {"actions": "[]"})]


def _attack_rig(path: Path) -> None:
    from puppet.rig import LandmarkRig

    rig = LandmarkRig.load(path)
    points = rig.points(np.zeros(len(rig.identity_cm)), np.ones(len(rig.actions)))
    assert np.isfinite(points).all() and rig.triangles.max() < 468


def _attack_mouth(path: Path) -> None:
    from puppet.generate.mouth import MouthPictures

    pictures = MouthPictures.load(path)
    assert np.isfinite(pictures.anchors_in_picture()).all() and pictures.upper.shape == pictures.lower.shape


def _attack_folds(path: Path) -> None:
    from puppet.generate.folds import FoldMaps

    FoldMaps.load.cache_clear()
    maps = FoldMaps.load(path)
    assert np.isfinite(maps.maps).all() and len(maps.actions) == len(maps.maps)


def _configs() -> list[bytes]:
    return [
        b'driver = "demo"\nfps = 30\ngain = ["AU12=1.5"]\nmute = ["AU04"]\nhead = 0.5\nmirror = true\nface = 0\n',
        b'driver = "clip.mp4"\ntarget = "a.jpg"\nsize = "640x480"\noutput = ["null"]\nau-log = "a.csv"\n'
        b'record = "a.mp4"\nstats = "s.json"\nengine = "auto"\npreset = "natural"\nframing = "head"\n',
    ]


def _attack_config(path: Path) -> None:
    from puppet import cli
    from puppet.config import Options, check

    options = check(cli.with_file(Options(), path, ()))
    assert isinstance(options.portrait.face, int) and 0 <= options.retarget.head <= 1


def _neutrals() -> list[bytes]:
    rest = {name: float(value) for name, value in zip(facs.NAMES, facs.REST, strict=True)}
    return [json.dumps({"format": 1, "rest": rest, "closed": {"AU45_L": 4.0, "AU45_R": 4.0}}).encode()]


def _attack_neutral(path: Path) -> None:
    from puppet.calibrate import NeutralCalibrator

    calibrator = NeutralCalibrator()
    calibrator.load(path)
    calibrator.observe(facs.rest(), 0.0)
    control = calibrator.apply(facs.rest())
    assert (control >= facs.LOW).all() and (control <= facs.HIGH).all()


def _notes() -> list[bytes]:
    return [
        b'person = "Ada"\nallowed_by = "herself"\npurpose = "calls"\nuntil = 2027-12-31\n',
        'person = "Ada Łovelace"\nallowed_by = "h\\u0065r"\n'.encode(),
    ]


def _attack_note(path: Path) -> None:
    from puppet.consent import MAX_CHARACTERS, Consent

    note = Consent.read(path)
    assert str(note).isprintable() and len(note.person) <= MAX_CHARACTERS


def _side_cars() -> list[bytes]:
    return [b'{"key": {"model": "a.onnx", "backend": "openvino"}, "sha256": "00", "check": {"max_error": 0.1}}', b"[]"]


def _attack_side_car(path: Path) -> None:
    from engines import EngineCache

    (entry,) = EngineCache(path.parent).entries()
    assert isinstance(entry.content, dict)


def _names() -> list[bytes]:
    turned = "Übung \u202e 1.png".encode()
    return [b"portrait.jpg", turned, b"-rf.mp4", b"concat:a|b.mp4", b"camera:1", b"a\nb.csv", b"x" * 300]


def _attack_name(path: Path) -> None:
    """The file's content is the name that is given."""
    from puppet.capture import open_driver
    from puppet.consent import find_note
    from puppet.gallery import portrait_paths

    name = str(path.parent / "none" / os.fsdecode(path.read_bytes()[:6000]).lstrip("/"))
    for read in (portrait_paths, functools.partial(open_driver, camera_size=(640, 480), fps=None)):
        try:
            read(name)
        except PuppetError as error:
            assert str(error).isprintable()
    find_note(Path(name))


_JSON_TOKENS = (b"[" * 3000, b'{"a":' * 2000, b"1e999", b"NaN", b"null", b"9" * 5000, b"-1", b'"\\ud800"', b"{}", b"[]")
_TOML_TOKENS = (
    b"[" * 2000, b"a." * 2000, b"9" * 5000, b"nan", b"inf", b"-1", b"true", b'"\\u0000"', b'"\\u000a"', b"1979-05-27",
    b"[[a]]\n", b"\xff", b'"""\n', b"{a=1}", b'""', b"fps = ", b"gain = ", b"target = ",
    b"\nperson = ", b"\nuntil = ",
)  # fmt: skip
_CSV_TOKENS = (
    b"nan", b"inf", b"-1", b"1e309", b"1e-320", b",", b",,,,", b'"', b'""', b"\n", b"\r", b"\x00", b"9" * 400, b"1_0",
    b", p_1", b", AU12_r", b", AU12_L", b" ", b"\xff", "１".encode(), b"-0", b"\xef\xbb\xbf", b",0" * 2000,
)  # fmt: skip

TARGETS = {
    "portrait": Target(".img", _pictures, _attack_picture, repair=repair_png),
    "video": Target(".clip", _clips, _attack_clip),
    "track": Target(".csv", _tracks, _attack_track, _CSV_TOKENS),
    "model": Target(".onnx", _onnx_models, _attack_model_file),
    "onnxruntime": Target(".onnx", _onnx_models, functools.partial(_attack_engine, backend="onnxruntime")),
    "openvino": Target(".onnx", _onnx_models, functools.partial(_attack_engine, backend="openvino")),
    "torch": Target(".onnx", _onnx_models, functools.partial(_attack_engine, backend="torch")),
    "rig": Target(".safetensors", _tensor_files, _attack_rig, _JSON_TOKENS),
    "mouth": Target(".safetensors", _tensor_files, _attack_mouth, _JSON_TOKENS),
    "folds": Target(".safetensors", _tensor_files, _attack_folds, _JSON_TOKENS),
    "config": Target(".toml", _configs, _attack_config, _TOML_TOKENS),
    "note": Target(".toml", _notes, _attack_note, _TOML_TOKENS),
    "neutral": Target(".json", _neutrals, _attack_neutral, _JSON_TOKENS),
    "side-car": Target(".json", _side_cars, _attack_side_car, _JSON_TOKENS),
    "name": Target(".txt", _names, _attack_name),
}
IN_PROCESS = tuple(name for name in TARGETS if name not in ("onnxruntime", "openvino", "torch"))
"""The others' native code may end the process: they run in the long form only."""
