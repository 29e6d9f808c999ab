"""What a defense may promise, in records and on the leaderboard."""

import csv
import dataclasses
import io
import json
import math
from statistics import NormalDist

import pytest
import torch
from hydra import compose, initialize_config_module
from torch import nn
from torch.func import functional_call, grad, vmap

from defenses.no_defense import NoDefense
from experiments.compose import plain
from experiments.console import Reporter
from experiments.job import Job
from experiments.judge import Judge
from experiments.page import words
from experiments.page.markdown import to_markdown
from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from experiments.store import Store
from splitbench.audit import audit, canaries
from splitbench.checks.defense_world import defense_world
from splitbench.gaussian_dp import epsilon_of, mu_of
from splitbench.guarantee import NO_GUARANTEE, Guarantee, local_privacy
from splitbench.leaderboard import Evidence, boards
from splitbench.record import Record, SchemaError
from splitbench.rng import stream
from tests.unit.records import CUTS, SETTINGS, cells, of_threat
from tests.unit.test_record import RECORD, edited

GAUSSIAN = local_privacy(epsilon=8, delta=1e-5, mu=mu_of(epsilon=8, delta=1e-5))
EMPIRICAL = Guarantee("empirical", "4 bits per value; no formal guarantee")


def test_a_pure_promise_adds_up():
    many = local_privacy(epsilon=0.5).over(messages=16)
    assert (many.epsilon, many.delta, many.messages) == (8.0, 0.0, 16)
    assert many.statement == "(8, 0)-local differential privacy of any two inputs, over 16 messages"


def test_an_approximate_promise_without_a_curve_adds_up_in_delta_too():
    many = local_privacy(epsilon=0.5, delta=0.3).over(messages=4)
    assert (many.epsilon, many.delta) == (2.0, 1.0)


def test_one_message_is_what_is_promised():
    assert GAUSSIAN.over(messages=1) is GAUSSIAN
    with pytest.raises(ValueError, match="messages=0"):
        GAUSSIAN.over(messages=0)


def test_what_is_not_formal_promises_no_epsilon_however_many_messages():
    for guarantee in (NO_GUARANTEE, EMPIRICAL):
        assert guarantee.epsilon == math.inf
        assert guarantee.over(messages=16) is guarantee
        assert guarantee.best_guess(candidates=1000) == 1.0


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"kind": "local_dp"}, "local_privacy"),
        ({"kind": "empirical", "epsilon": 1.0}, "local_privacy"),
        ({"kind": "certain"}, "choose from"),
        ({"kind": "certified"}, "a certificate has a least error"),
        ({"kind": "empirical", "least_mse": 0.1}, "and nothing else has"),
        ({"kind": "certified", "least_mse": -0.1, "prior": "white noise"}, "least_mse=-0.1"),
        ({"kind": "certified", "least_mse": math.inf, "prior": "white noise"}, "least_mse=inf"),
        ({"kind": "certified", "least_mse": 0.1}, "prior=''"),
        ({"kind": "certified", "least_mse": 0.1, "prior": "p", "applies": False}, "applies=False"),
        ({"kind": "local_dp", "epsilon": -1.0}, "epsilon=-1"),
        ({"kind": "local_dp", "epsilon": 1.0, "delta": 2.0}, "delta=2"),
        ({"kind": "local_dp", "epsilon": 1.0, "messages": 0}, "messages=0"),
        ({"kind": "local_dp", "epsilon": 1.0, "delta": 1e-5, "mu": 1.0}, "it needs delta = 0.127"),
        ({"kind": "local_dp", "epsilon": 1.0, "mu": 1.0}, "it needs delta"),
    ],
)
def test_a_promise_that_contradicts_itself_is_refused(keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        Guarantee(**{"statement": "trust me", **keywords})


@pytest.mark.parametrize("guarantee", [NO_GUARANTEE, EMPIRICAL, GAUSSIAN, local_privacy(epsilon=1)])
def test_a_promise_survives_its_record(guarantee):
    for told in (guarantee, guarantee.over(messages=16)):
        record = dataclasses.replace(RECORD, guarantee=told.to_record())
        again = Record.from_json(record.to_json())
        assert Guarantee.from_record(again.guarantee) == told


def test_a_record_from_before_there_were_numbers_promises_none():
    old = Record.from_json(edited(guarantee={"kind": "empirical", "statement": "noise"}))
    assert Guarantee.from_record(old.guarantee) == Guarantee("empirical", "noise")
    assert Guarantee.from_record({}) == NO_GUARANTEE


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "local_dp", "statement": "trust me"},
        {"kind": "empirical"},
        {"kind": "none", "statement": "", "strength": 7},
        {"kind": "local_dp", "statement": "", "epsilon": "8"},
        {"kind": "local_dp", "statement": "", "epsilon": 1, "delta": 1e-9, "mu": 3.0},
    ],
)
def test_a_record_whose_promise_contradicts_itself_is_refused(damage):
    with pytest.raises(SchemaError, match="guarantee"):
        Record.from_json(edited(guarantee=damage))


def privately_trained(model, images, labels, *, clip, multiplier, steps):
    """DP-SGD as it is written down: each example's gradient clipped, their sum noised."""
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}

    def loss(values, image, label):
        logits = functional_call(model, values, (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    generator = stream(0, "dp-sgd")
    for _ in range(steps):
        each = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
        norms = torch.stack([g.flatten(1).square().sum(1) for g in each.values()]).sum(0).sqrt()
        scale = (clip / norms).clamp(max=1)
        for name, g in each.items():
            total = (g * scale.view(-1, *[1] * (g.ndim - 1))).sum(0)
            noise = clip * multiplier * torch.randn(total.shape, generator=generator)
            parameters[name] = parameters[name] - 0.5 * (total + noise) / len(images)
    model.load_state_dict(parameters)


def test_training_with_differential_privacy_promises_nothing_about_an_input_at_inference():
    """O42: the client is private in its training images, and a release still names its input."""
    world = defense_world("relu")

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.client, self.head = world.split.client, nn.Linear(75, 3)

        def forward(self, images):
            return self.head(self.client(images)[0].flatten(1))

    whole = Whole()
    before = [p.clone() for p in world.split.client.parameters()]
    training = {"clip": 1.0, "multiplier": 5.0, "steps": 3}
    privately_trained(whole, world.train.images(), world.train.labels, **training)
    after = world.split.client.parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    deployed = world.deploy(NoDefense())
    promise = deployed.defense.guarantee()
    assert promise is NO_GUARANTEE
    assert promise.epsilon == math.inf
    # And rightly so: a release tells two inputs apart better than that epsilon would let it.
    spent = epsilon_of(delta=1e-5, mu=math.sqrt(training["steps"]) / training["multiplier"])
    pairs = canaries(deployed.features(world.targets))[-1:]
    assert audit(deployed.defense, pairs, generator=stream(0, "audit")).epsilon > 5 > 3 * spent


def test_a_record_of_sixteen_observations_holds_the_promise_over_all_of_them(tmp_path):
    overrides = ["defense=local_dp_gaussian", "defense.finetune_epochs=0", "threat=repeated"]
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=["debug=smoke", "cuts=[relu3]", *overrides])
    job = Job(plain(config), Store(tmp_path), Reporter("test", interactive=False))
    judge = Judge(job)
    judge.see(job.target(job.cuttable.find("relu3")))
    told = Guarantee.from_record(judge.facts("relu3")["guarantee"])
    assert told == GAUSSIAN.over(messages=16)


def private_boards(observations=1, guarantee=GAUSSIAN):
    """The demo's noisy rows, as if they had a formal guarantee."""
    told = guarantee.over(messages=observations).to_record()
    evidence = [
        Evidence(dataclasses.replace(record, guarantee=told), scores)
        for record, scores in cells(settings=SETTINGS[1:2], cuts=CUTS[:2], targets=20)
    ]
    return boards(of_threat(evidence, observations=observations), resamples=100)


def test_the_tables_say_what_is_promised_over_all_messages_that_are_seen():
    (first, second) = csv.DictReader(io.StringIO(to_csv(private_boards(observations=16))))
    assert first["guarantee"] == second["guarantee"] == "local_dp"
    assert float(first["guarantee_epsilon"]) == pytest.approx(49.856, abs=1e-3)
    assert float(first["guarantee_delta"]) == 1e-5
    assert first["guarantee_messages"] == "16"
    assert float(first["guarantee_rebuilt"]) == pytest.approx(
        NormalDist().cdf(4 * GAUSSIAN.mu + NormalDist().inv_cdf(0.01))
    )
    text = to_markdown(private_boards(observations=16))
    assert text.count("over 16 messages") == 1  # once for both cuts
    assert f"| 49.9 | 1e{words.MINUS}05 | 16 | more than 99.9\N{NO-BREAK SPACE}% |" in text


def test_the_page_says_what_is_promised_and_nothing_where_nothing_is():
    page = render(private_boards())
    section = page[page.index("<h2>What is promised</h2>") :]
    section = section[: section.index("</section>")]
    assert GAUSSIAN.statement in section
    assert "<b>8</b>" in section
    rebuilt = NormalDist().cdf(GAUSSIAN.mu + NormalDist().inv_cdf(0.01))
    assert f"<td>{100 * rebuilt:.0f}\N{NO-BREAK SPACE}%</td>" in section
    assert section.count("<tr>") == 2  # the heading, and one line for both cuts
    assert "<h2>What is promised" not in render(private_boards(guarantee=EMPIRICAL))


def test_tables_leave_empty_what_is_not_promised():
    (first, _) = csv.DictReader(io.StringIO(to_csv(private_boards(guarantee=EMPIRICAL))))
    assert first["guarantee"] == "empirical"
    assert first["guarantee_epsilon"] == first["guarantee_delta"] == ""
    assert first["guarantee_rebuilt"] == ""
    assert "What is promised" not in to_markdown(private_boards(guarantee=EMPIRICAL))


def test_a_record_of_no_promise_holds_no_infinity():
    assert json.loads(json.dumps(NO_GUARANTEE.to_record(), allow_nan=False))["epsilon"] is None
