"""What is answered over a socket is what the whole model answers, bit for bit."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from runtime_world import RESIDUAL, deployment, exported, images, lenet, residual, running

from defenses.chain import Chain
from defenses.early_exit import EarlyExit
from defenses.entropic_student import EntropicStudent
from defenses.gaussian_noise import GaussianNoise
from defenses.no_defense import NoDefense
from defenses.quantization import Quantization
from defenses.secret_rotation import SecretRotation
from defenses.structured_pruning import StructuredPruning
from experiments.exporting import expected_answers, why_not_compared
from offloading.runtime.errors import ArtefactError
from splitbench.codecs.jpeg import Jpeg
from splitbench.codecs.uniform import Uniform
from splitbench.data.images import LabeledImages
from splitbench.rng import stream
from splitbench.split import cuts


def train():
    pixels = (images(24) * 255).byte()
    return LabeledImages(pixels, torch.arange(24) % 10, tuple("abcdefghij"))


MODULE_CUTS = [cut.name for cut in cuts(lenet(), images(1), granularity="module")]


@pytest.mark.parametrize("cut", MODULE_CUTS)
def test_lenet_behind_a_socket_is_lenet_at_every_module(tmp_path, cut):
    model = lenet()
    folder = exported(tmp_path, deployment(model, cut))
    with running(folder) as client:
        for image in images():
            answer = client.request(image)
            assert answer.answered_by == "server"
            assert torch.equal(answer.logits, model(image[None]))


@pytest.mark.parametrize("cut", ["stem", "conv1", "add"])
def test_a_residual_net_is_itself_behind_cuts_of_one_tensor_and_of_two(tmp_path, cut):
    model = residual()
    folder = exported(tmp_path, deployment(model, cut), model=RESIDUAL)
    with running(folder, trust=["runtime_world"]) as client:
        crossing = len(client.deployed.hops[0])
        assert crossing == (2 if cut == "conv1" else 1)
        for image in images():
            assert torch.equal(client.request(image).logits, model(image[None]))


@pytest.mark.parametrize("later", [["relu3"], ["conv2", "output"]])
def test_a_chain_of_segments_is_the_model_and_each_says_what_it_did(tmp_path, later):
    model = lenet()
    count = 2 + len(later)
    folder = exported(tmp_path, deployment(model, "pool1"), later_cuts=later)
    with running(folder, segments=count) as client:
        for image in images():
            answer = client.request(image)
            assert torch.equal(answer.logits, model(image[None]))
            assert [server.segment for server in answer.servers] == [*range(1, count)]
            assert answer.phases_ms["middle"] > 0


def test_a_chain_can_be_cut_within_a_residual_block(tmp_path):
    model = residual()
    folder = exported(tmp_path, deployment(model, "stem"), model=RESIDUAL, later_cuts=["relu"])
    with running(folder, segments=3, trust=["runtime_world"]) as client:
        assert len(client.deployed.hops[1]) == 2
        for image in images():
            assert torch.equal(client.request(image).logits, model(image[None]))


QUICK = {"finetune_epochs": 1, "batch_size": 12}
DEFENDED = {
    "noise": lambda: GaussianNoise(noise_std=0.5, **QUICK),
    "bits": lambda: Quantization(bits=4, **QUICK),
    "key": lambda: SecretRotation(per="channel"),
    "student": lambda: EntropicStudent(beta=0.01, channels=2, epochs=1, **QUICK),
    "pruned": lambda: StructuredPruning(share=0.5, **QUICK),
    "chain": lambda: Chain(
        members={"noise": GaussianNoise(noise_std=0.5, **QUICK), "bits": Quantization(bits=8)}
    ),
}


@pytest.mark.parametrize(
    ("cut", "later"), [("relu2", []), ("relu2", ["relu3"]), ("relu3", []), ("relu3", ["relu4"])]
)
def test_a_client_that_was_pruned_within_answers_as_it_does_in_the_benchmark(tmp_path, cut, later):
    defense = StructuredPruning(share=0.5, layers="all", **QUICK)
    made = deployment(lenet(), cut, defense=defense, fit=train())
    assert len(made.split.client.body.conv1.weight) == 3
    folder = exported(tmp_path, made, later_cuts=later)
    with running(folder, segments=2 + len(later)) as client:
        for image in images(2).split(1):
            assert torch.equal(
                client.request(image).logits, made.split.server(made.split.client(image))
            )


@pytest.mark.parametrize(
    ("name", "later"),
    [*((name, []) for name in DEFENDED), *((name, ["relu3"]) for name in ("student", "pruned"))],
)
def test_a_defended_deployment_answers_as_it_does_in_the_benchmark(tmp_path, name, later):
    made = deployment(lenet(), "relu1", defense=DEFENDED[name](), fit=train())
    folder = exported(tmp_path, made, later_cuts=later)
    with running(folder, segments=2 + len(later)) as client:
        client.generator = stream(3, "noise")
        generator = stream(3, "noise")
        for image in images(2).split(1):
            release = made.transmit(image, generator=generator)
            answer = client.request(image)
            assert torch.equal(answer.logits, made.predict(release))
            assert answer.payload_bytes == int(release.payload_bytes)


EXACT = {
    "nothing": NoDefense,
    "key": DEFENDED["key"],
    "pruned": DEFENDED["pruned"],
    "exit": lambda: EarlyExit(share=0.5, head_epochs=1, batch_size=12),
    "exits": lambda: EarlyExit(share=0.5, after=["conv1"], head_epochs=1, batch_size=12),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_a_measurement_expects_is_what_is_answered_behind_a_socket(tmp_path, name):
    made = deployment(lenet(), "relu1", defense=EXACT[name](), fit=train())
    assert why_not_compared(made) == ""
    expected = expected_answers(made, lenet(), images())
    assert not any(torch.equal(*pair) for pair in combinations(expected, 2))
    with running(exported(tmp_path, made)) as client:
        for image, wanted in zip(images(), expected, strict=True):
            assert torch.equal(client.request(image).logits[0], wanted)


def test_no_answer_is_expected_where_something_is_lost_or_drawn():
    drawn = deployment(lenet(), "relu1", defense=DEFENDED["noise"](), fit=train())
    assert why_not_compared(drawn) == "its defense is random"
    lost = deployment(lenet(), "relu1", codec=Uniform(bits=8))
    assert why_not_compared(lost) == "its codec is lossy"


def test_a_lossy_codec_of_the_experiment_travels_along(tmp_path):
    made = deployment(lenet(), "relu1", codec=Uniform(bits=2))
    with running(exported(tmp_path, made)) as client:
        release = made.transmit(images(1), generator=stream(0, "x"))
        answer = client.request(images(1))
        assert torch.equal(answer.logits, made.predict(release))
        assert answer.payload_bytes < 6 * 28 * 28


def test_the_image_itself_can_be_sent_as_a_photograph(tmp_path):
    made = deployment(lenet(), "input", codec=Jpeg(quality=50))
    with running(exported(tmp_path, made)) as client:
        release = made.transmit(images(1), generator=stream(0, "x"))
        answer = client.request(images(1))
        assert torch.equal(answer.logits, made.predict(release))
        assert answer.payload_bytes == int(release.payload_bytes) == answer.sent_bytes - 44
        assert 0 < answer.received_bytes < 1000


def test_fresh_noise_is_drawn_for_every_message_unless_a_generator_is_given(tmp_path):
    noise = GaussianNoise(noise_std=1.0, finetune_epochs=0)
    made = deployment(lenet(), "relu1", defense=noise, fit=train())
    with running(exported(tmp_path, made)) as client:
        (image,) = images(1)
        assert not torch.equal(client.request(image).logits, client.request(image).logits)


@pytest.mark.parametrize("after", [(), ("conv1",)])
def test_an_image_that_an_exit_is_sure_of_is_never_sent(tmp_path, after):
    defense = EarlyExit(share=0.5, after=after, head_epochs=1, batch_size=12, held_out=0.5)
    made = deployment(lenet(), "relu1", defense=defense, fit=train())
    with running(exported(tmp_path, made)) as client:
        several = images(24)  # those that chose the thresholds
        left = made.left(several)
        stays = left < len(made.exits)
        assert set(left.tolist()) == {*range(len(made.exits) + 1)}, "the test needs all kinds"
        for image, kept in zip(several.split(1), stays.tolist(), strict=True):
            answer = client.request(image)
            assert answer.answered_by == ("exit" if kept else "server")
            assert (answer.payload_bytes == 0) == kept == (answer.servers == ())
            wanted = made.answer(image, made.release(image, generator=stream(0, "x")))
            assert torch.equal(answer.logits, wanted)


def test_the_device_computes_nothing_behind_the_exit_that_is_sure(tmp_path):
    defense = EarlyExit(share=1.0, after=["conv1"], head_epochs=1, batch_size=12)
    made = deployment(lenet(), "relu2", defense=defense, fit=train())
    with running(exported(tmp_path, made)) as client:
        several, run = images(12), []
        client.head.client.conv2.register_forward_hook(lambda *_: run.append(1))
        left = made.left(several)
        assert set(left.tolist()) >= {0, 1}
        for image in several.split(1):
            client.request(image)
        assert len(run) == int((left > 0).sum())


def test_an_artefact_whose_exits_answer_otherwise_is_not_written(tmp_path):
    defense = EarlyExit(share=0.5, after=["conv1"], head_epochs=1, batch_size=12)
    made = deployment(lenet(), "relu1", defense=defense, fit=train())
    kept = made.defense.answered_early
    made.defense.answered_early = lambda stop, values: replace(
        kept(stop, values), logits=kept(stop, values).logits + 1
    )
    with pytest.raises(ArtefactError, match="the head that was written answers otherwise"):
        exported(tmp_path, made)


def test_the_phases_sum_to_the_time_from_end_to_end(tmp_path):
    folder = exported(tmp_path, deployment(lenet(), "relu1"), later_cuts=["relu3"])
    with running(folder, segments=3) as client:
        for image in images():
            answer = client.request(image)
            assert sum(answer.phases_ms.values()) == pytest.approx(answer.end_to_end_ms, abs=1e-6)
            assert all(ms >= 0 for ms in answer.phases_ms.values())
            used = {name for name, ms in answer.phases_ms.items() if ms > 0}
            assert used >= {"head", "encode", "up", "decode", "middle", "tail", "down"}
            assert not used & {"network", "failed"}
