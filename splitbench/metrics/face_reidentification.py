"""Re-identification by a face recogniser that knows nothing of the attacked model."""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from splitbench.metric import MetricUnavailableError
from splitbench.metrics.reidentification import Reidentification

SIDE = 150  # pixels of what the recogniser looks at
WEIGHTS = "models/dlib_face_recognition_resnet_model_v1.dat"
REMEDY = "pip install 'splitbench[faces]' brings dlib and its weights"


class FaceReidentification(Reidentification):
    """dlib's face recogniser, 128 dimensions, trained on about three million other photographs.

    Images are scaled to 150 x 150 pixels and repeated to three channels where they are grey; they
    should show one face that fills them. Faces are not looked for and not aligned, in neither the
    photographs on file nor the guesses: where a face detector fails on a blurred guess, the metric
    would measure the detector. That costs the ceiling some points.

    Cost: one forward of a residual network of 29 layers per image, about 0.1 s on a CPU core;
    bound it with ``metric_examples``.

    Deviations from the paper:
        The network is dlib's own, smaller than the paper's; no alignment.

    References:
        King. "Dlib-ml: a machine learning toolkit". JMLR 2009.
        He, Zhang, Ren, Sun. "Deep residual learning for image recognition". CVPR 2016.
    """

    key: ClassVar[str] = "rank1_faces"

    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """What the recogniser sees, 128 numbers.

        Raises:
            MetricUnavailableError: dlib or its weights are not installed.
            ValueError: The images have neither one nor three channels.
        """
        if images.shape[1] not in (1, 3):
            raise ValueError(f"{self.key} takes grey or RGB images, got {images.shape[1]} channels")
        scaled = functional.interpolate(
            images.float(), size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
        )
        pixels = (scaled.clamp(0, 1) * 255).round().byte().expand(-1, 3, -1, -1)
        chips = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        vectors = [np.asarray(self._network.compute_face_descriptor(chip)) for chip in chips]
        return torch.from_numpy(np.stack(vectors)).float()

    @cached_property
    def _network(self) -> Any:
        try:
            import dlib
        except ImportError as error:
            raise MetricUnavailableError(f"{self.key} needs dlib: {REMEDY}") from error
        package = find_spec("face_recognition_models")  # found, not imported: only its file
        places = (package.submodule_search_locations if package else None) or []
        file = next((p for p in (Path(place, WEIGHTS) for place in places) if p.is_file()), None)
        if file is None:
            raise MetricUnavailableError(f"{self.key} needs dlib's weights: {REMEDY}")
        return dlib.face_recognition_model_v1(str(file))
