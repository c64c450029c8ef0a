"""The learned texture step: regions and their way back, and painting."""

import json
from dataclasses import replace

import numpy as np
import pytest

import engines
from engines.model_file import ModelFile
from puppet import facs
from puppet.assembly import open_texture
from puppet.config import Options, PortraitOptions
from puppet.errors import InputError
from puppet.generate.painter import MODELS, TextureNetworks
from puppet.generate.region import (
    ACTION_COUNT,
    ACTION_NAMES,
    EYE_SHAPE,
    FACE_SHAPE,
    MOUTH_SHAPE,
    SHAPES,
    SLITS,
    RegionCrop,
    action_input,
    cut,
    lay_back,
    region_frame,
    sample,
)
from puppet.generate.slit import Opening
from puppet.generate.texture import MotionPicture

CORNERS = {
    "mouth": np.array([[90.0, 150.0], [150.0, 156.0]]),
    "R": np.array([[70.0, 90.0], [105.0, 92.0]]),
    "L": np.array([[170.0, 92.0], [135.0, 92.0]]),
}


def motion_picture(*, shift=0, seed=0):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 255, (240, 240, 3), np.uint8)
    rgb = np.roll(rgb, shift, 0)
    mask = np.ones((10, 40), np.float32)
    depth = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None], (10, 40))
    opening = Opening((100, 150, 140, 160), mask, depth, np.full((10, 40), 10, np.float32), np.zeros((10, 40)))
    return MotionPicture(rgb, dict.fromkeys(("mouth", "R", "L"), opening), CORNERS)


def test_a_face_is_cut_between_the_outer_corners_of_its_eyes_with_every_opening_in_it():
    crop = cut(motion_picture(), "face")
    at = np.stack([CORNERS["R"][0], CORNERS["L"][0]]) @ crop.crop_from_frame[:, :2].T + crop.crop_from_frame[:, 2]
    x, y = FACE_SHAPE.slit_centre
    np.testing.assert_allclose(at, [[x - FACE_SHAPE.slit_width / 2, y], [x + FACE_SHAPE.slit_width / 2, y]], atol=1e-6)
    picture = motion_picture()
    eye = replace(picture.openings["R"], window=(70, 85, 110, 95))
    only_mouth, both = (
        cut(replace(picture, openings=picture.openings | {"R": own, "L": own}), "face").mask
        for own in (picture.openings["mouth"], eye)
    )
    assert both[only_mouth > 0.99].min() > 0.99
    assert both.sum() > 1.5 * only_mouth.sum()
    assert cut(replace(picture, openings={"mouth": eye}), "face") is None


@pytest.mark.parametrize(("slit", "shape"), [("mouth", MOUTH_SHAPE), ("R", EYE_SHAPE), ("L", EYE_SHAPE)])
def test_corners_lie_level_at_the_slit_of_the_crop(slit, shape):
    matrix = region_frame(CORNERS[slit], shape, is_mirrored=slit == "L")
    at = CORNERS[slit] @ matrix[:, :2].T + matrix[:, 2]
    x, y = shape.slit_centre
    np.testing.assert_allclose(at, [[x - shape.slit_width / 2, y], [x + shape.slit_width / 2, y]], atol=1e-6)


def test_down_in_the_picture_is_down_in_a_mirrored_crop():
    matrix = region_frame(CORNERS["L"], EYE_SHAPE, is_mirrored=True)
    assert (matrix[:, :2] @ (0, 1))[1] > 0
    assert np.linalg.det(matrix[:, :2]) < 0


def test_opening_lands_in_the_crop():
    crop = cut(motion_picture(), "mouth")
    inside = crop.crop_from_frame[:, :2] @ (120, 155) + crop.crop_from_frame[:, 2]
    column, row = np.round(inside).astype(int)
    assert crop.mask[row, column] == 1
    assert crop.mask[5, 5] == 0
    assert 0.3 < crop.depth[row, column] < 0.7


def test_a_slit_that_left_the_picture_is_no_region():
    picture = motion_picture()
    assert cut(MotionPicture(picture.rgb, {}, picture.corners), "mouth") is None


def test_a_crop_of_a_large_picture_is_filtered():
    checks = (np.indices((900, 900)).sum(0) % 2 * 255).astype(np.uint8)
    matrix = region_frame(np.array([[300.0, 450.0], [600.0, 450.0]]), MOUTH_SHAPE, is_mirrored=False)
    crop = sample(np.dstack([checks] * 3), matrix, MOUTH_SHAPE)
    assert np.ptp(crop) < 30


def test_planes_come_back_to_where_they_were_cut():
    rows, columns = np.indices((240, 240))
    rgb = np.dstack([rows, columns, rows]).astype(np.uint8)
    picture = MotionPicture(rgb, motion_picture().openings, CORNERS)
    crop = cut(picture, "mouth")
    (x, y), back = lay_back(crop.rgb.astype(np.float32), crop, rgb.shape)
    middle = back[150 - y, 120 - x]
    np.testing.assert_allclose(middle, [150, 120, 150], atol=1.5)


def test_left_and_right_change_places_for_the_mirrored_eye():
    control = facs.control(AU45_L=5, AU12_R=2, gaze_yaw_rad=0.3)
    np.testing.assert_allclose(
        action_input(control, is_mirrored=True),
        action_input(facs.control(AU45_R=5, AU12_L=2, gaze_yaw_rad=-0.3), is_mirrored=False),
    )


def test_a_missing_network_is_named_with_its_cure(tmp_path):
    with pytest.raises(InputError, match=r"texture_mouth_portrait\.onnx is missing.*--texture off"):
        TextureNetworks(folder=tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Untrained networks as ONNX files, their heads made to do something."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    import torch

    from trainer.texture_model import RegionNetwork, export_onnx
    from trainer.texture_params import TextureParams

    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    small = TextureParams(near=8, middle=8, deep=8, style=4, rest_near=4)
    networks = {}
    for region, shape in SHAPES.items():
        batch = len(SLITS[region])
        network = RegionNetwork(small, shape).eval()
        network.painter.head.bias.data.fill_(3.0)
        export_onnx(network, shape, batch, folder / f"texture_{region}", {"licence": "none"})
        networks[region] = network
    return folder, networks


def test_a_folder_of_ones_own_networks_is_used_without_asking_for_texture(exported):
    networks = open_texture(Options(portrait=PortraitOptions(texture_models=exported[0])))
    assert networks is not None
    networks.close()


def test_a_folder_without_networks_is_named(tmp_path):
    with pytest.raises(InputError, match=r"texture_mouth_portrait\.onnx is missing.*--texture-models"):
        open_texture(Options(portrait=PortraitOptions(texture_models=tmp_path)))


def test_the_portrait_at_rest_is_not_painted(exported):
    step = TextureNetworks(folder=exported[0], engine="onnxruntime").prepare(motion_picture())
    assert step.paint(motion_picture(), facs.rest()) == []


def test_a_moved_picture_is_painted_inside_it_and_fades_at_the_border(exported):
    step = TextureNetworks(folder=exported[0], engine="onnxruntime").prepare(motion_picture())
    picture = motion_picture(shift=3)
    patches = step.paint(picture, facs.control(AU12=3))
    assert len(patches) >= 1
    for patch in patches:
        (x, y), (height, width) = patch.origin, patch.attention.shape
        assert x >= 0 and y >= 0 and x + width <= 240 and y + height <= 240
        assert patch.attention.max() > 0.02
        border = np.concatenate([patch.attention[[0, -1]].ravel(), patch.attention[:, [0, -1]].ravel()])
        assert border.max() < 0.1 * patch.attention.max()


def test_an_open_eye_stays_the_portraits_own_and_a_closing_one_is_painted(exported):
    step = TextureNetworks(folder=exported[0], engine="onnxruntime", regions=("eye",)).prepare(eyes(openness=1.0))
    assert step.paint(eyes(openness=0.95, shift=3), facs.rest()) == []
    assert len(step.paint(eyes(openness=0.2, shift=3), facs.control(AU45=4))) == 2


def test_lids_that_go_down_with_the_eyes_are_not_painted_unless_they_close(exported):
    step = TextureNetworks(folder=exported[0], engine="onnxruntime", regions=("eye",)).prepare(eyes(openness=1.0))
    lowered = eyes(openness=0.6, shift=3)
    assert step.paint(lowered, facs.control(gaze_pitch_rad=-0.3)) == []
    assert len(step.paint(lowered, facs.control(gaze_pitch_rad=-0.3, AU45_L=3))) == 1
    assert len(step.paint(lowered, facs.control(AU06=4))) == 2


def eyes(*, openness, shift=0):
    """A motion picture with both eyes open by a share of 20 px."""
    picture, height = motion_picture(shift=shift), round(20 * openness)
    openings = {}
    for side in "RL":
        x0, y0 = CORNERS[side].min(0).astype(int)
        planes = np.ones((height, 35), np.float32)
        window = (x0, y0 - 10, x0 + 35, y0 - 10 + height)
        openings[side] = Opening(window, planes, planes, height * planes, 0 * planes)
    return MotionPicture(picture.rgb, openings, picture.corners)


def test_a_whole_face_is_painted_as_soon_as_it_moves(exported):
    step = TextureNetworks(folder=exported[0], engine="onnxruntime", regions=("face",)).prepare(motion_picture())
    assert step.paint(motion_picture(), facs.rest()) == []
    assert len(step.paint(motion_picture(shift=3), facs.rest())) == 1


def test_exported_networks_say_what_torch_says(exported):
    torch = pytest.importorskip("torch")
    import engines

    folder, networks = exported
    crop = cut(motion_picture(), "mouth")
    rows, columns = MOUTH_SHAPE.seen
    moved = crop.network_input()[None, :, rows, columns]
    actions = np.full((1, ACTION_COUNT), 0.3, np.float32)
    rest = moved[:, :4] * 0.5
    portrait = engines.load(folder / "texture_mouth_portrait.onnx", backend="onnxruntime")
    paint = engines.load(folder / "texture_mouth_paint.onnx", backend="onnxruntime")
    out = paint.run({"moved": moved, "actions": actions, **portrait.run({"rest": rest})})
    with torch.no_grad():
        painted = networks["mouth"](*(torch.from_numpy(a) for a in (moved, rest, actions)))
    floored = np.maximum(painted.attention.numpy() - 0.08, 0) / 0.92
    np.testing.assert_allclose(out["attention"], floored, atol=2e-3)
    change = (painted.colour.numpy() - moved[:, :3]) * 127.5
    np.testing.assert_allclose(out["change"], change, atol=0.5)


def test_crop_planes_are_what_the_network_expects():
    crop = cut(motion_picture(), "R")
    assert isinstance(crop, RegionCrop)
    planes = crop.network_input()
    assert planes.shape == (5, EYE_SHAPE.height, EYE_SHAPE.width)
    assert planes.dtype == np.float32
    assert -1 <= planes[:3].min() and planes[:3].max() <= 1


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_packaged_models_say_what_they_are_and_take_any_batch(path):
    engine = engines.load(path, backend="onnxruntime")
    about = engine.info.metadata
    assert "MIT" in about["licence"] and about["version"]
    assert ModelFile.read(path).opset >= 17
    order = tuple(json.loads(about.get("actions") or about["intensities"]))
    assert order in (ACTION_NAMES, facs.INTENSITY_NAMES)
    assert {spec.shape[0] for spec in (*engine.inputs.values(), *engine.outputs.values())} == {None}
    one, three = (
        engine.run({name: np.full((n, *spec.shape[1:]), 0.5, spec.dtype) for name, spec in engine.inputs.items()})
        for n in (1, 3)
    )
    for name, value in one.items():
        np.testing.assert_allclose(three[name], np.repeat(value, 3, 0), atol=1e-3)


@pytest.mark.parametrize(("choice", "regions"), [("auto", ("eye",)), ("on", ("mouth", "eye"))])
def test_lids_alone_are_painted_unless_mouths_are_asked_for(monkeypatch, choice, regions):
    import puppet.generate.painter
    from puppet.assembly import open_texture
    from puppet.config import Options, PortraitOptions

    monkeypatch.setattr(puppet.generate.painter, "TextureNetworks", lambda **settings: settings["regions"])
    assert open_texture(Options(portrait=PortraitOptions(texture=choice))) == regions
    assert Options().portrait.texture == "auto"
    assert open_texture(Options(portrait=PortraitOptions(texture="off"))) is None


def test_a_limited_network_fills_no_cavity_with_milk_keeps_half_its_tint_and_teeth_as_teeth():
    torch = pytest.importorskip("torch")
    from trainer.texture_model import RegionNetwork
    from trainer.texture_params import TextureParams

    sizes = dict(near=8, middle=8, deep=8, style=4, rest_near=4)
    height, width = MOUTH_SHAPE.seen_size
    moved = torch.full((1, 5, height, width), -0.8)  # a cavity of a tenth of full light
    moved[:, :3, 30:34] = 0.6  # with one row of teeth
    moved[:, 3:] = 1.0
    rest, actions = torch.zeros(1, 4, height, width), torch.zeros(1, ACTION_COUNT)

    def colour(push=(0.9, 0.5, 0.1), **limits):
        network = RegionNetwork(TextureParams(**sizes, **limits), MOUTH_SHAPE).eval()
        torch.nn.init.zeros_(network.painter.head.weight)
        pushed = torch.tensor([*push, 0.0]).repeat_interleave(4)
        network.painter.head.bias.data[:] = pushed
        with torch.no_grad():
            return network(moved, rest, actions).colour[0]

    free, limited, grey = colour(), colour(lighter=1.2), colour(tint=0.5)
    assert (free[:, 60] > -0.75).all()
    torch.testing.assert_close(limited[:, 60] + 1, 1.2 * (moved[0, :3, 60] + 1))
    torch.testing.assert_close(limited[:, 35], free[:, 35])  # a gap between teeth may be filled
    spread = (free - moved[0, :3]).std(0) / 2
    torch.testing.assert_close((grey - moved[0, :3]).std(0), spread)
    dark = colour(push=(-1.5,) * 3, darker=0.6)
    torch.testing.assert_close(dark[:, 30:34] + 1, 0.6 * (moved[0, :3, 30:34] + 1))


def test_what_is_painted_on_skin_may_be_held_to_its_hue():
    """A lid that the network would paint green on brown skin; inside the opening it paints as it likes."""
    torch = pytest.importorskip("torch")
    from trainer.texture_model import RegionNetwork
    from trainer.texture_params import TextureParams

    sizes = dict(near=8, middle=8, deep=8, style=4, rest_near=4)
    height, width = EYE_SHAPE.seen_size
    brown, dark = torch.tensor([1.2, 0.8, 0.6]), 0.3
    moved = torch.zeros(1, 5, height, width)
    moved[:, :3] = brown[:, None, None] * torch.where(torch.arange(width) < width // 2, 1.0, dark) - 1
    moved[:, 3, :10] = 1.0
    rest, actions = torch.zeros(1, 4, height, width), torch.zeros(1, ACTION_COUNT)

    def colour(share):
        network = RegionNetwork(TextureParams(**sizes, skin_hue=share), EYE_SHAPE).eval()
        torch.nn.init.zeros_(network.painter.head.weight)
        network.painter.head.bias.data[:] = torch.tensor([0.0, 0.3, 0.0, 0.0]).repeat_interleave(4)
        with torch.no_grad():
            return network(moved, rest, actions).colour[0] + 1

    free, half, held = colour(0.0), colour(0.5), colour(1.0)
    skin, inside = (slice(None), 20, -5), (slice(None), 5, -5)
    torch.testing.assert_close(held[skin] / held[skin].mean(), brown / brown.mean())
    torch.testing.assert_close(held[skin].mean(), free[skin].mean())
    torch.testing.assert_close(half[skin], (free[skin] + held[skin]) / 2)
    torch.testing.assert_close(held[inside], free[inside])
