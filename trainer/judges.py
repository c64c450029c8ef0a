"""Independent judges of a rendering: facial actions, identity, and distances between pictures. For evaluation only."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from puppet.errors import InputError
from puppet.track import quiet_mediapipe

JUDGED = {
    "AU45": ("eyeBlinkLeft", "eyeBlinkRight"),
    "AU12": ("mouthSmileLeft", "mouthSmileRight"),
    "AU25/26": ("jawOpen",),
}
"""FACS name -> the judge's own names, whose mean is taken."""

_FIVE_POINTS = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]], np.float32)
_RIGHT_EYE, _LEFT_EYE = (33, 133, 159, 145), (263, 362, 386, 374)


class ActionJudge:
    """MediaPipe's FaceLandmarker with blendshapes; it had no part in training.

    Raises:
        InputError: the task file is missing.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(
                f"{path} is missing: expected MediaPipe's face landmarker. Give the folder with --judges-dir."
            )
        with quiet_mediapipe():
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(path)), output_face_blendshapes=True
            )
            self._image = mediapipe.Image
            self._format = mediapipe.ImageFormat.SRGB
            self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def judge(self, rgb: np.ndarray) -> dict[str, float] | None:
        """0-1 for each of `JUDGED`; None where no face is seen."""
        with quiet_mediapipe():
            result = self._landmarker.detect(self._image(self._format, np.ascontiguousarray(rgb)))
        if not result.face_blendshapes:
            return None
        scores = {c.category_name: c.score for c in result.face_blendshapes[0]}
        return {au: float(np.mean([scores[name] for name in names])) for au, names in JUDGED.items()}

    def close(self) -> None:
        self._landmarker.close()


class IdentityJudge:
    """MobileFaceNet embeddings through ncnn.

    Raises:
        InputError: the package or the files are missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import ncnn
        except ImportError as exc:
            raise InputError("the identity judge needs ncnn. Install it with: pip install ncnn") from exc
        self._ncnn, self._net = ncnn, ncnn.Net()
        if self._net.load_param(str(folder / "mobilefacenet.param")) or self._net.load_model(
            str(folder / "mobilefacenet.bin")
        ):
            raise InputError(f"{folder}/mobilefacenet.* can't be read. Give the folder with --judges-dir.")

    def embed(self, rgb: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
        """`(128,)` unit vector of the face with landmarks `(478, 3)`."""
        points = landmarks_px[:, :2]
        five = np.stack([points[list(_RIGHT_EYE)].mean(0), points[list(_LEFT_EYE)].mean(0), *points[[4, 61, 291]]])
        matrix, _ = cv2.estimateAffinePartial2D(five.astype(np.float32), _FIVE_POINTS, method=cv2.LMEDS)
        face = cv2.warpAffine(rgb, matrix, (112, 112), flags=cv2.INTER_LINEAR)
        with self._net.create_extractor() as extractor:
            pixels = self._ncnn.Mat.from_pixels(
                np.ascontiguousarray(face), self._ncnn.Mat.PixelType.PIXEL_RGB, 112, 112
            )
            extractor.input("data", pixels)
            vector = np.array(extractor.extract("fc1")[1]).ravel()
        return vector / np.linalg.norm(vector)


class PictureDistance:
    """Distances of two crops `(h, w, 3)` uint8; less is better but for PSNR and SSIM."""

    def __init__(self, squeezenet: Path) -> None:
        import torch

        from trainer.squeezenet import SqueezeFeatures

        self._torch = torch
        # Deeper than what training saw (up to fire4): layers of LPIPS's own squeeze variant.
        self._features = SqueezeFeatures(squeezenet, depth=8, taps=(1, 3, 5, 6, 7, 8)).eval()

    def squeeze(
        self, candidates: list[np.ndarray], truth: np.ndarray, where: np.ndarray
    ) -> tuple[list[float], list[float]]:
        """LPIPS-like distances by SqueezeNet 1.0 features, everywhere and where `where` `(h, w)` 0-1 says.

        LPIPS proper has learnt channel weights, but for SqueezeNet 1.1, AlexNet and VGG, whose features are others.
        """
        torch = self._torch
        crops = torch.from_numpy(np.stack([*candidates, truth])).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            errors = self._features.errors(crops[:-1], crops[-1:])
            weight = torch.from_numpy(where)[None, None]
            everywhere = self._features.mean_error(errors, torch.ones_like(weight))
            return everywhere.tolist(), self._features.mean_error(errors, weight).tolist()


def structure(a: np.ndarray, b: np.ndarray, *, scales: int = 1) -> float:
    """SSIM (Wang et al. 2004) of luma, mean over `scales` halvings."""
    x, y = (cv2.cvtColor(v, cv2.COLOR_RGB2GRAY).astype(np.float32) for v in (a, b))
    values = []
    for _ in range(scales):
        mean_x, mean_y, xx, yy, xy = (cv2.GaussianBlur(v, (11, 11), 1.5) for v in (x, y, x * x, y * y, x * y))
        covariance, spread = xy - mean_x * mean_y, xx - mean_x**2 + yy - mean_y**2
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        ssim = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        values.append(float((ssim / ((mean_x**2 + mean_y**2 + c1) * (spread + c2))).mean()))
        x, y = (cv2.resize(v, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for v in (x, y))
    return float(np.mean(values))


def peak_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR, dB."""
    error = float(((a.astype(np.float32) - b) ** 2).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-3)))


def gradient_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of luma gradients, grey levels a pixel."""
    x, y = (cv2.cvtColor(v, cv2.COLOR_RGB2GRAY).astype(np.float32) for v in (a, b))
    return float(
        np.mean(
            [np.abs(cv2.Sobel(x, -1, *d, ksize=1) - cv2.Sobel(y, -1, *d, ksize=1)).mean() for d in ((1, 0), (0, 1))]
        )
    )
