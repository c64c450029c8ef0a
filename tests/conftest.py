from pathlib import Path

import cv2
import numpy as np
import pytest

from puppet.gallery import demo_portrait
from puppet.portrait import Portrait


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """`(512, 512, 3)` uint8 RGB: the photograph that comes with scikit-image."""
    rgb = cv2.cvtColor(cv2.imread(str(demo_portrait())), cv2.COLOR_BGR2RGB)
    rgb.flags.writeable = False
    return rgb


@pytest.fixture(scope="session")
def astronaut_portrait(astronaut) -> Portrait:
    """The same as a portrait, by landmarks tracked once: on a machine with a card that has no MediaPipe, too."""
    return Portrait(astronaut, np.load(Path(__file__).parent / "data" / "astronaut_landmarks.npy"), "astronaut")


@pytest.fixture(autouse=True, scope="session")
def own_user_folders(tmp_path_factory):
    """Keep compiled engines of tests out of the user's cache, and their certificates out of the configuration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()
