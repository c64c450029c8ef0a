"""The badge on pictures, and that every way out of the program carries it unless it is switched off."""

import av
import numpy as np
import pytest

from puppet import cli, facs
from puppet.gallery import demo_portrait
from puppet.openface import TrackWriter
from puppet.publish import Rendering
from puppet.publish.badge import Badge
from puppet.publish.outputs import Outputs

SIZES = [(512, 512), (64, 64), (64, 4096), (4096, 64), (330, 246), (1280, 720), (1920, 1080)]


def ground(size, grey):
    rgb = np.full((size[1], size[0], 3), grey, np.uint8)
    rgb.flags.writeable = False  # whoever writes to the renderer's array fails
    return rgb


def luminance(rgb):
    """Relative luminance 0-1 as WCAG 2 defines it."""
    linear = np.asarray(rgb, float) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


@pytest.mark.parametrize("size", SIZES)
def test_it_lies_in_the_lower_right_corner_and_changes_nothing_else(size):
    rgb = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    before, badge = rgb.copy(), Badge(size)
    badged = badge.on(rgb)
    np.testing.assert_array_equal(rgb, before)
    rows, columns = badge.place
    assert 0.4 * size[1] < rows.start < rows.stop <= size[1] and 0 <= columns.start < columns.stop <= size[0]
    assert (badged[badge.place] != before[badge.place]).mean() > 0.5
    badged[badge.place] = before[badge.place]
    np.testing.assert_array_equal(badged, before)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_it_can_be_read_on_dark_and_light_pictures(size, grey):
    badge = Badge(size)
    part = luminance(badge.on(ground(size, grey))[badge.place])
    height = part.shape[0]
    inside = part[height // 6 : -(height // 6), height // 3 : -(height // 3)]  # neither rim nor rounded ends
    assert (np.percentile(inside, 99) + 0.05) / (np.median(inside) + 0.05) > 4.5  # WCAG's contrast for small text
    assert height >= 16


@pytest.mark.parametrize("size", [(512, 512), (1280, 720), (1920, 1080)])
def test_it_takes_less_than_a_hundredth_of_the_picture(size):
    rows, columns = Badge(size).place
    assert (rows.stop - rows.start) * (columns.stop - columns.start) < 0.01 * size[0] * size[1]


class Taking:
    name = "taking"

    def __init__(self):
        self.taken = []

    def publish(self, rendering):
        self.taken.append(rendering)

    def close(self):
        pass


@pytest.mark.parametrize("has_badge", [True, False])
def test_every_sink_gets_the_same_picture_with_or_without_it(has_badge):
    size, sinks = (128, 96), [Taking(), Taking()]
    outputs = Outputs(size=size, fps=30, is_live=True, has_badge=has_badge)
    outputs._sinks += sinks
    rgb = ground(size, 90)
    outputs.publish(Rendering(rgb, 0, 0.0, facs.rest(), facs.rest(), has_face=True))
    first, second = (sink.taken[0].rgb for sink in sinks)
    assert first is second
    assert (first != rgb).any() == has_badge
    np.testing.assert_array_equal(rgb, 90)


def corner_lightness(path, size):
    with av.open(str(path)) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return rgb[Badge(size).place].astype(float)


def test_a_recording_carries_it_unless_it_is_switched_off(tmp_path):
    size, pictures = (256, 256), {}
    writer = TrackWriter(tmp_path / "track.csv")
    writer.write(facs.rest(), frame=0, time_s=0, confidence=1, has_face=True)
    writer.close()
    (tmp_path / "off.toml").write_text('badge = "off"\n')
    for name, more in {"default": [], "off": ["--config", str(tmp_path / "off.toml")]}.items():
        path = tmp_path / f"{name}.mp4"
        args = ["--target", str(demo_portrait()), "--driver", str(tmp_path / "track.csv"), "--size", "256x256"]
        assert cli.main([*args, "--as-fast-as-possible", "--record", str(path), *more]) == 0
        pictures[name] = corner_lightness(path, size)
    assert np.abs(pictures["default"] - pictures["off"]).mean() > 10
