import numpy as np
import pytest

from puppet import facs
from puppet.errors import InputError
from puppet.landmarks import (
    FACE_COUNT,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LIP_CORNERS,
    LOWER_INNER_LIP,
    LOWER_LIP,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_INNER_LIP,
    UPPER_LIP,
)
from puppet.pose import angles_from_rotation, rotation_from_angles
from puppet.rig import OUTLINE_START, LandmarkRig


@pytest.fixture(scope="module")
def rig():
    return LandmarkRig.load()


def as_tracked(points_cm, *, yaw=0.0, pitch=0.0, roll=0.0, scale=20.0, shift=(320.0, 240.0, 0.0)):
    """Head-frame points as a tracker would report them, px."""
    return (points_cm @ (scale * rotation_from_angles(yaw, pitch, roll)).T) * [1, -1, -1] + shift


def weights(rig, **named):
    out = np.zeros(len(rig.actions), np.float32)
    for name, value in named.items():
        out[rig.actions.index(name)] = value
    return out


def test_actions_are_the_table_without_lips_part(rig):
    assert rig.actions == tuple(name for name in facs.INTENSITY_NAMES if name != "AU25")
    assert rig.action_cm.shape == (len(rig.actions), *rig.mean_cm.shape)


def test_outline_has_ears_skull_and_neck_beyond_the_landmarks(rig):
    assert {"ear", "neck", "skull"} == set(rig.outline_groups)
    assert min(v.min() for v in rig.outline_groups.values()) == OUTLINE_START
    assert max(v.max() for v in rig.outline_groups.values()) == len(rig.mean_cm) - 1


def test_jaw_moves_lower_lip_and_leaves_upper_lip(rig):
    drop = -rig.action_cm[rig.actions.index("AU26"), :, 1]
    upper, lower = list(UPPER_INNER_LIP[2:-2]), list(LOWER_INNER_LIP[2:-2])
    assert drop[lower].min() > 2.0
    assert drop[upper].max() < 0.7


def test_each_landmark_of_a_lip_goes_with_its_own_lip(rig):
    """Also those between a lip's edges, which lie on the other lip's where the mouth is closed."""
    drop = -rig.action_cm[rig.actions.index("AU26"), :, 1]
    corners = drop[list(LIP_CORNERS)].mean()
    assert drop[list(set(LOWER_LIP) - set(LIP_CORNERS))].min() > 1.5 * corners
    assert drop[list(set(UPPER_LIP) - set(LIP_CORNERS))].max() < corners


@pytest.mark.parametrize(
    ("name", "upper", "lower"),
    [("AU45_L", LEFT_UPPER_LID, LEFT_LOWER_LID), ("AU45_R", RIGHT_UPPER_LID, RIGHT_LOWER_LID)],
)
def test_full_lid_closure_closes_that_eye_only(rig, name, upper, lower):
    closed = rig.points(np.zeros(len(rig.identity_cm)), weights(rig, **{name: 1.0}))
    gap = np.abs(closed[list(upper[3:6]), 1] - closed[list(lower[3:6]), 1])
    assert gap.max() < 0.1
    other = RIGHT_UPPER_LID if name == "AU45_L" else LEFT_UPPER_LID
    assert np.abs(closed - rig.mean_cm)[list(other)].max() < 0.05


def test_sided_actions_mirror_each_other(rig):
    left, right = (rig.action_cm[rig.actions.index(f"AU12_{side}")][:FACE_COUNT] for side in "LR")
    assert np.allclose(np.linalg.norm(left, axis=1).sum(), np.linalg.norm(right, axis=1).sum(), rtol=0.05)
    assert left[291, 0] > 0.5 > -0.5 > right[61, 0]  # each mouth corner outward on its own side


def test_triangles_face_the_viewer(rig):
    a, b, c = (rig.mean_cm[rig.triangles[:, k], :2] for k in range(3))
    u, v = b - a, c - a
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    assert len(rig.triangles) == 898
    assert (area > 0).mean() > 0.9  # at the rim some look sideways


def test_fit_finds_pose_and_actions_of_a_made_face(rig):
    identity = np.random.default_rng(1).normal(0, 0.5, len(rig.identity_cm))
    done = weights(rig, AU12_L=0.8, AU12_R=0.8, AU26=0.5)
    fit = rig.fit(as_tracked(rig.points(identity, done)[:478], yaw=0.2, pitch=-0.1, roll=0.1))
    assert angles_from_rotation(fit.rotation) == pytest.approx((0.2, -0.1, 0.1), abs=0.06)
    assert fit.residual < 0.02
    assert fit.weights[rig.actions.index("AU12_L")] > 0.5
    assert fit.weights[rig.actions.index("AU26")] > 0.3


def test_unproject_undoes_project(rig):
    fit = rig.fit(as_tracked(rig.mean_cm[:478], yaw=0.3))
    points = rig.mean_cm[::50].astype(np.float64)
    assert np.allclose(fit.unproject(fit.project(points)), points, atol=1e-6)


def test_lips_part_counts_the_gap(rig):
    assert rig.lips_part(weights(rig)) == 0
    assert rig.lips_part(weights(rig, AU26=0.85)) == pytest.approx(5.0)
    assert rig.lips_part(weights(rig, AU24=1.0)) == 0


def test_missing_file_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"python -m trainer rig"):
        LandmarkRig.load(tmp_path / "none.safetensors")
