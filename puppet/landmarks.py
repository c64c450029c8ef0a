"""Groups of the 478 face-mesh landmarks, by MediaPipe's indices. Left and right are the person's own."""

from __future__ import annotations

FACE_COUNT = 468
"""Landmarks on the skin; ten on the irises follow."""
TRACKED_COUNT = 478

RIGHT_IRIS = (468, 469, 470, 471, 472)
LEFT_IRIS = (473, 474, 475, 476, 477)
"""Centre first, then four on the rim."""

UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
"""Right corner to left corner, both corners included."""

_UPPER_BETWEEN = (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292, 76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306)
_LOWER_BETWEEN = (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306)
UPPER_LIP = tuple(dict.fromkeys((*UPPER_OUTER_LIP, *UPPER_INNER_LIP, *_UPPER_BETWEEN)))
LOWER_LIP = tuple(dict.fromkeys((*LOWER_OUTER_LIP, *LOWER_INNER_LIP, *_LOWER_BETWEEN)))
LIP_CORNERS = (61, 291, 78, 308, 62, 292, 76, 306)
"""All landmarks of each lip, the corners, which are both's, among them."""

RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
LIDS = {"R": (RIGHT_UPPER_LID, RIGHT_LOWER_LID), "L": (LEFT_UPPER_LID, LEFT_LOWER_LID)}
"""Outer corner to inner corner, both corners included; by the person's side upper and lower."""

RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
"""Upper edge then lower edge, each from the temple to the nose."""

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Silhouette, from the forehead's middle by the person's left round to it again."""

LIPS = tuple(dict.fromkeys((*UPPER_OUTER_LIP, *LOWER_OUTER_LIP, *UPPER_INNER_LIP, *LOWER_INNER_LIP)))
RIGHT_EYE = tuple(dict.fromkeys((*RIGHT_UPPER_LID, *RIGHT_LOWER_LID)))
LEFT_EYE = tuple(dict.fromkeys((*LEFT_UPPER_LID, *LEFT_LOWER_LID)))

STIFF = (
    33, 133, 243, 190, 173, 130, 362, 263, 463, 414, 398, 359,
    6, 168, 197, 195, 5, 122, 351, 196, 419, 3, 248, 193, 417, 8, 9, 151, 10,
    109, 338, 67, 297, 103, 332, 139, 368, 34, 264, 127, 356, 162, 389, 234, 454,
)  # fmt: skip
"""Skin over bone: eye corners, nose bridge, forehead, temples; what tells head motion from facial actions."""
