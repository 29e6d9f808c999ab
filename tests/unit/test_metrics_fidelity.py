"""Metrics of pixels, and what the base class refuses."""

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from skimage.data import camera

from splitbench.metrics.independent_accuracy import IndependentAccuracy
from splitbench.metrics.mean_squared_error import MeanSquaredError
from splitbench.metrics.multi_scale_similarity import MultiScaleSimilarity
from splitbench.metrics.peak_signal_to_noise import PeakSignalToNoise
from splitbench.metrics.structural_similarity import StructuralSimilarity
from splitbench.rng import stream

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def pictures(*shape):
    return torch.rand(shape, generator=stream(0, "unit", "metrics"))


def test_squared_error_of_float32_images_is_computed_in_float64():
    truth = torch.zeros(1, 1, 64, 64)
    assert float(MeanSquaredError()(truth + 0.1, truth)) == float(np.float32(0.1)) ** 2


def test_peak_signal_to_noise_ends_at_its_cap():
    x = pictures(2, 1, 4, 4) * 0.9
    close = x + torch.tensor([0.0, 1e-5]).view(2, 1, 1, 1)
    assert PeakSignalToNoise()(close, x).tolist() == [60, 60]
    assert PeakSignalToNoise(cap_db=30.0)(x + 0.01, x).tolist() == [30, 30]
    assert PeakSignalToNoise(cap_db=120.0)(close, x).tolist()[0] == 120


@pytest.mark.parametrize("cap", [0.0, -1.0, float("inf"), float("nan")])
def test_peak_signal_to_noise_refuses_a_cap_that_keeps_no_mean_finite(cap):
    with pytest.raises(ValueError, match="cap_db"):
        PeakSignalToNoise(cap_db=cap)


def test_structural_similarity_names_the_window_that_does_not_fit():
    x = pictures(1, 1, 30, 10)
    with pytest.raises(ValueError, match="11 x 11 pixels, larger than the 30 x 10 images"):
        StructuralSimilarity()(x, x)


@pytest.mark.parametrize("shape", [(28, 28), (176, 175)])
def test_multi_scale_similarity_names_the_size_that_it_needs(shape):
    x = pictures(1, 1, *shape)
    with pytest.raises(ValueError, match=rf"176 x 176 pixels, the images have {shape[0]} x"):
        MultiScaleSimilarity()(x, x)


def test_multi_scale_similarity_of_flat_images_is_their_luminance_to_the_coarsest_weight():
    one, other = 0.3, 0.8
    flat = torch.full((1, 1, 176, 176), one, dtype=torch.float64)
    luminance = (2 * one * other + 1e-4) / (one**2 + other**2 + 1e-4)
    found = MultiScaleSimilarity()(flat, torch.full_like(flat, other))
    assert found.item() == pytest.approx(luminance**0.1333, abs=1e-7)  # weights are float32


def by_definition(one, other):
    """Multi-scale similarity of two gray images, written down with numpy and scipy alone."""
    window = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            one, other = (x.reshape(x.shape[0] // 2, 2, -1, 2).mean((1, 3)) for x in (one, other))
        coarsest = scale == len(WEIGHTS) - 1
        # The paper leaves out where the window hangs over; our coarsest scale is reflected there.
        x, y = (np.pad(image, 5, mode="reflect") if coarsest else image for image in (one, other))
        parts = (x, y, x * x, y * y, x * y)
        mean, rival, square, second, mixed = (fftconvolve(p, window, "valid") for p in parts)
        spread = square - mean**2 + second - rival**2
        kept = (2 * (mixed - mean * rival) + 0.03**2) / (spread + 0.03**2)
        if coarsest:
            kept = kept * (2 * mean * rival + 0.01**2) / (mean**2 + rival**2 + 0.01**2)
        product *= kept.mean() ** weight
    return product


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_multi_scale_similarity_of_pictures_is_what_its_docstring_says(noise):
    truth = camera()[::2, ::2].astype(float)[:192, :208] / 255
    guess = (1 - noise) * truth + noise * pictures(192, 208).double().numpy()
    found = MultiScaleSimilarity()(torch.tensor(guess)[None, None], torch.tensor(truth)[None, None])
    assert found.item() == pytest.approx(by_definition(guess, truth), abs=1e-6)


def test_structural_similarity_of_float32_images_is_computed_in_float64():
    x, y = pictures(2, 1, 1, 16, 16)
    ssim = StructuralSimilarity()
    assert float(ssim(x, y)) == float(ssim(x.double(), y.double()))


@pytest.mark.parametrize(
    ("guess", "truth", "message"),
    [
        (pictures(2, 1, 4, 4), pictures(1, 1, 4, 4), "differ in shape"),
        (pictures(2, 1, 4, 4), pictures(2, 3, 4, 4), "differ in shape"),
        (pictures(1, 4, 4), pictures(1, 4, 4), "guess must be float images"),
        (pictures(0, 1, 4, 4), pictures(0, 1, 4, 4), "guess must be float images"),
        (torch.ones(1, 1, 4, 4, dtype=torch.uint8), pictures(1, 1, 4, 4), "torch.uint8"),
        (pictures(1, 1, 4, 4) - 0.5, pictures(1, 1, 4, 4), r"guess must be in \[0, 1\]"),
        (pictures(1, 1, 4, 4), pictures(1, 1, 4, 4) * 255, "divide by 255"),
        (pictures(1, 1, 4, 4), pictures(1, 1, 4, 4) / 0, "truth holds NaN or infinite"),
    ],
)
def test_a_metric_refuses_what_are_not_images_and_says_why(guess, truth, message):
    with pytest.raises(ValueError, match=message):
        MeanSquaredError()(guess, truth)


@pytest.mark.parametrize("labels", [torch.zeros(3), torch.zeros(2, 1), torch.tensor(1)])
def test_a_metric_of_labels_wants_one_integer_per_guess(labels):
    with pytest.raises(ValueError, match="one integer label per guess"):
        IndependentAccuracy()(pictures(3, 1, 8, 8), labels)


def test_scores_carry_no_gradient():
    guess = pictures(2, 1, 12, 12).requires_grad_()
    assert not MeanSquaredError()(guess, guess.detach()).requires_grad
