"""Images that the device answers: what of them is seen, who is told what, and what that leaks."""

import copy
import csv
import dataclasses
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from attacks.class_mean import ClassMean
from attacks.length_probe import LengthProbe
from attacks.mean_image import MeanImage
from attacks.ridge import Ridge
from experiments.compose import plain
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.job import Job
from experiments.judge import Judge
from experiments.page.markdown import to_markdown
from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from experiments.store import Store
from experiments.target import Target
from splitbench.answers import Answers
from splitbench.checks.attack_trial import attempt
from splitbench.checks.attack_world import CLASSES, Noisy, Undefended, toy_images, toy_world
from splitbench.checks.inference_trial import attempt as attempt_inference
from splitbench.checks.inference_trial import infer, strangers
from splitbench.exits import Answered
from splitbench.leaderboard import Evidence, boards
from splitbench.leakage import leakage
from splitbench.link import Link
from splitbench.record import Interval
from splitbench.rng import stream
from splitbench.statistics import Resampler
from splitbench.threat import ThreatModel
from tests.unit.records import CUTS, SETTINGS, cells


class FirstTwoStay(Undefended):
    """What looks like the first two of four classes stays, and is always said to be the first."""

    exits = True

    def __init__(self, look):
        super().__init__()
        self.look = [look]  # not a part of it: a rigged eye

    def answered(self, features):
        first = torch.eye(CLASSES)[torch.zeros(len(features[0]), dtype=torch.int64)]
        return Answered(self.look[0](features).argmax(1) < 2, first)


class NoisyFirstTwoStay(FirstTwoStay, Noisy):
    """The same, and what is sent is noisy."""


def rigged(kind=FirstTwoStay, **options):
    """The toy world with known exits, and what its server says of undefended features."""
    world = toy_world(**options)
    look = copy.deepcopy(world.deployment.split.server)
    deployment = replace(world.deployment, defense=kind(look).eval())
    return replace(world, deployment=deployment, pools={})


def seen(world, images):
    """What the rigged eye sees in images, exactly."""
    return world.deployment.defense.look[0](world.deployment.features(images)).argmax(1)


MANY = toy_images(40, "many")


@pytest.mark.parametrize("options", [{}, {"forked": True}, {"aside": True}], ids=str)
def test_of_images_that_stay_nothing_arrives_and_of_the_others_what_always_did(options):
    world, images = rigged(**options), MANY.images()
    stays = seen(world, images) < 2
    assert 0 < int(stays.sum()) < len(images)
    plain_world = toy_world(**options)
    real, simulated, undefended = (
        world.deployment.transmit(images, generator=stream(0, "message")),
        world.deployment.release(images, generator=stream(0, "message")),
        plain_world.deployment.transmit(images, generator=stream(0, "message")),
    )
    assert list(real.side) == [*undefended.side, "sent"]
    for release in (real, simulated):
        assert torch.equal(release.sent, ~stays)
        for values, before in zip(release.visible, undefended.visible, strict=False):
            assert not values[stays].any()
            assert torch.equal(values[~stays], before[~stays])
    assert torch.equal(real.payload_bytes, torch.where(stays, 0, undefended.payload_bytes))


def test_if_all_images_stay_the_receiver_still_knows_the_shapes():
    world = rigged(forked=True)
    mine = MANY.images()[seen(world, MANY.images()) < 2]
    release = world.deployment.transmit(mine, generator=stream(0, "message"), observations=3)
    shapes = [tuple(values.shape[1:]) for values in release.visible]
    assert shapes == [spec.shape for spec in world.deployment.visible_specs(3)]
    assert not release.payload_bytes.any()


def test_users_get_the_answer_of_who_decides_and_the_accuracy_is_their_mixture():
    world, images = rigged(), MANY.images()
    target = Target("rigged", world.deployment, images, seed=0, names=("test",))
    looks, told = seen(world, images), target.logits().argmax(1)
    assert torch.equal(told, torch.where(looks < 2, 0, looks))
    right = (told == MANY.labels).double()
    share = float((looks < 2).double().mean())
    of_the_device = float((MANY.labels[looks < 2] == 0).double().mean())
    of_the_server = float((MANY.labels[looks >= 2] == looks[looks >= 2]).double().mean())
    mixture = share * of_the_device + (1 - share) * of_the_server
    assert float(right.mean()) == pytest.approx(mixture)
    assert torch.equal(target.sent(), looks >= 2)
    assert torch.equal(target.outcomes(), torch.where(looks < 2, CLASSES, looks))


def test_the_adversary_is_told_what_to_expect_unless_it_does_not_expect_the_defense():
    world = rigged(NoisyFirstTwoStay)
    for observations in (1, 3):
        surface = world.surface("fit", ThreatModel(observations=observations))
        for release in (surface.query(MANY.images()), surface.validation_pairs(0)[1]):
            shapes = [tuple(values.shape[1:]) for values in release.visible]
            assert shapes == [spec.shape for spec in surface.visible_specs]
            assert surface.visible_specs[-1].name == [*release.side][-1] == "sent"
    naive = world.surface("naive", ThreatModel(defense="hidden"))
    assert naive.query(MANY.images()).sent is None
    assert naive.understood(world.release()).sent is None


def test_a_message_that_did_not_come_speaks_for_no_features():
    world = rigged()
    release = world.deployment.release(MANY.images(), generator=stream(0, "message"))
    guess = tuple(f.roll(1, 0).requires_grad_() for f in world.client(MANY.images()))
    found = world.surface("recover", ThreatModel()).mismatch(release, guess)
    assert not found[~release.sent].any()
    assert bool((found[release.sent] > 0).all())
    (slope,) = torch.autograd.grad(found.sum(), guess)
    assert not slope[~release.sent].any()


def test_an_attack_recovers_what_is_sent_and_no_more_than_the_decision_tells_of_the_rest():
    world = replace(rigged(), targets=MANY.images())
    sent = seen(world, world.targets) >= 2
    guess = attempt(Ridge(), world).guess
    blind = attempt(MeanImage(), world).guess
    errors, floor = ((g - world.targets).square().flatten(1).mean(1) for g in (guess, blind))
    assert float(errors[sent].mean()) < 0.02 * float(floor[sent].mean())
    assert float(errors[~sent].mean()) > 0.3 * float(floor[~sent].mean())


def test_the_floor_of_the_prediction_knows_that_nothing_came():
    world = rigged()
    floor = attempt(ClassMean(), world).attack
    images = torch.cat([pair[0] for pair in world.surface("x", ThreatModel()).pairs()])
    stays = seen(world, images) < 2
    kept = floor.export_state()["images"]
    torch.testing.assert_close(kept[CLASSES], images[stays].mean(0))
    torch.testing.assert_close(kept[:2], images.mean(0).expand_as(kept[:2]))  # never named
    torch.testing.assert_close(kept[3], images[seen(world, images) == 3].mean(0))


def test_the_decision_is_a_side_channel_that_the_length_of_a_message_gives_away():
    probe, world = LengthProbe(messages=64), rigged()
    release, truth = strangers(world)
    guess = infer(attempt_inference(probe, world).inference, world, release=release)[0].argmax(1)
    recalls = [float((guess[truth == c] == c).float().mean()) for c in range(CLASSES)]
    assert np.mean(recalls) > 0.4  # which half of the classes it is; chance is 0.25
    assert float(((guess < 2) == (truth < 2)).float().mean()) > 0.8
    assert probe.says_nothing_about(toy_world().release()) == "all messages have one length"


def opened(tmp_path, *overrides, cut="relu3"):
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=["debug=smoke", f"cuts=[{cut}]", *overrides])
    return Job(plain(config), Store(tmp_path), Reporter("test", interactive=False))


def test_the_judge_tells_the_leakage_of_what_is_sent_from_that_of_all(tmp_path):
    job = opened(tmp_path, "defense=early_exit", "defense.share=0.5")
    judge, target = Judge(job), job.target(job.cuttable.find("relu3"))
    judge.see(target)
    sent = target.sent().numpy()
    told = judge.facts("relu3")
    assert 0 < sent.sum() < len(sent)
    assert told["utility"]["share_sent"].mean == sent.mean()
    assert told["cost"]["payload_bytes_min"] == 0
    assert told["cost"]["payload_bytes_mean"] == pytest.approx(
        sent.mean() * told["cost"]["payload_bytes_max"]
    )
    right = target.logits().argmax(1) == job.roles.target.labels
    assert told["utility"]["accuracy"].mean == pytest.approx(float(right.float().mean()))
    truth = job.roles.target.images()
    guess = torch.where(torch.from_numpy(sent)[:, None, None, None], 0.9 * truth, truth.mean(0))
    found = judge.verdict(guess, "relu3", Ridge(), {}, {})
    blind = np.stack(
        [found.scores.floors[f"{name}/mse"][sent] for name in ("constant_color", "mean_image")], 1
    )
    among = leakage(found.scores.metrics["mse"][sent], blind, resampler=Resampler())
    assert found.leakage["L_sent"].mean == pytest.approx(among.mean)
    assert found.leakage["L_sent"].n == sent.sum()
    assert found.leakage["L"].mean < found.leakage["L_sent"].mean
    few = judge.verdict(guess[:3], "relu3", Ridge(), {}, {})
    assert ("L_sent" in few.leakage) == bool(sent[:3].any())


LINK = Link(name="slow", up_mbps=1.0, down_mbps=1.0, rtt_ms=10.0)


def board(share):
    """The demo's noisy row, as if its device answered all but this share of the images."""
    evidence = []
    for record, scores in cells(settings=SETTINGS[1:2], cuts=CUTS[2:3], targets=20):
        leak = record.leakage.get("L")
        changes = {} if share is None else {
            "utility": {
                **record.utility,
                "share_sent": Interval(mean=share, low=share - 0.1, high=share + 0.1, n=20),
            },
            "leakage": {**record.leakage, "L_sent": replace(leak, mean=leak.mean + 0.01)},
        }  # fmt: skip
        evidence.append(Evidence(dataclasses.replace(record, **changes), scores))
    return boards(evidence, link=LINK, resamples=100)


def test_tables_and_page_say_what_is_sent_where_not_all_is_and_nothing_elsewhere():
    found, usual = board(0.7), board(None)
    (row,) = found[0].rows
    best = next(e for e in row.attacks if e.name == row.best)
    assert row.raw_sent.mean == pytest.approx(best.leakage.mean + 0.01)
    (line,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert float(line["share_sent"]) == 0.7
    assert float(line["leakage_sent"]) == pytest.approx(row.raw_sent.mean, abs=1e-5)
    told = to_markdown(found).replace("\N{NO-BREAK SPACE}", " ")
    assert f"| 70 % | {row.raw_sent.mean:.2f}" in told
    page = render(found, link=LINK, commands={})
    assert "% sent</small>" in page
    assert f"sent {row.raw_sent.mean:.2f}</small>" in page
    section = page[page.index("<h2>What never leaves the device</h2>") :]
    line = section[section.index("<tbody>") : section.index("</tbody>")]
    assert "<td>70\N{NO-BREAK SPACE}%</td>" in line
    assert f"<b>{row.raw_sent.mean:.2f}</b>" in line
    assert "share_sent" not in to_csv(usual)
    assert "answered on the device" not in to_markdown(usual)
    plain = render(usual, link=LINK, commands={})
    assert "sent</small>" not in plain
    assert "never leaves" not in plain


def test_the_judge_says_who_leaves_by_which_exit_and_what_the_device_computes(tmp_path):
    job = opened(tmp_path, "defense=early_exit_inner", "defense.share=0.6", cut="relu2")
    judge, target = Judge(job), job.target(job.cuttable.find("relu2"))
    judge.see(target)
    told, left = judge.facts("relu2"), target.left()
    assert set(left.tolist()) == {0, 1, 2}
    right = target.logits().argmax(1) == job.roles.target.labels
    for place, name in enumerate(("relu1", "relu2")):
        here = left == place
        assert told["utility"][f"share_exit/{name}"].mean == float(here.double().mean())
        assert told["utility"][f"accuracy_exit/{name}"].mean == float(right[here].double().mean())
    # Two convolutions of 5 x 5 weights, and a linear classifier of the channels on a 4 x 4 grid.
    first, second = 2 * 25 * 1 * 6 * 28 * 28, 2 * 25 * 6 * 16 * 10 * 10
    early, late = 2 * 6 * 16 * 10, 2 * 16 * 16 * 10
    assert told["cost"]["client_flops"] == first + early + second + late
    reach = float((left > 0).double().mean())
    wanted = first + early + reach * (second + late)
    assert told["cost"]["client_flops_mean"] == pytest.approx(wanted)
    assert told["cost"]["client_ms_mean"] > 0
    assert told["traits"]["changes_client"]  # not computed from what others release
    assert told["traits"]["nested"] == "no"


def test_tables_say_how_many_leave_by_which_exit_over_seeds():
    evidence = []
    for record, scores in cells(cuts=("relu1",), settings=(SETTINGS[0],), seeds=2, targets=40):
        share = 0.2 + 0.1 * record.cell.seed
        changes = {
            "share_sent": Interval(mean=1 - share, low=0.0, high=1.0, n=40),
            "share_exit/conv1": Interval(mean=share, low=share, high=share, n=40),
            "accuracy_exit/conv1": Interval(mean=0.9, low=0.9, high=0.9, n=8),
            "share_exit/relu1": Interval(mean=0.0, low=0.0, high=0.0, n=40),
        }
        cost = {**record.cost, "client_flops_mean": 7.0, "client_ms": 5.0, "client_ms_mean": 3.0}
        cost |= {"encode_ms": 1.0, "decode_ms": 1.0, "server_ms": 1.0}
        utility = {**record.utility, **changes}
        evidence.append(Evidence(replace(record, utility=utility, cost=cost), scores))
    found = boards(evidence, link=LINK, resamples=100)
    (row,) = found[0].rows
    assert row.exits["conv1"].share.mean == pytest.approx(0.25)
    assert row.exits["relu1"].accuracy is None
    text = to_markdown(found).replace("\N{NO-BREAK SPACE}", " ")
    assert "| 25 % at conv1 (90 % right), 0 % at relu1 (— right) |" in text
    (line,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert (float(line["client_flops_mean"]), float(line["client_ms_mean"])) == (7, 3)
    assert float(line["client_ms"]) == 6  # of an image that is sent, with its coding
    sent = 0.75
    link = LINK.transfer_ms(row.payload_bytes_mean / sent)
    assert row.end_to_end_ms == pytest.approx(3 + sent * (1 + 2 + link))


def test_a_layer_behind_the_cut_is_the_users_to_mend_before_anything_is_trained(tmp_path):
    job = opened(tmp_path, "defense=early_exit_inner", "defense.after=[fc2]")
    with pytest.raises(UserError, match="no layer 'fc2' lies before the cut"):
        job.check_fit()


def test_who_asks_about_auxiliary_images_gets_no_message_of_those_that_leave_early(tmp_path):
    job = opened(tmp_path, "defense=early_exit_inner", "defense.share=0.6", cut="relu2")
    deployed = job.target(job.cuttable.find("relu2")).deployment
    images = job.roles.auxiliary.images()
    numbered = Answers(deployed, images.__getitem__, observations=1, seed=0, name="pool")
    assert torch.equal(numbered.first(150).sent, deployed.left(images[:150]) == 2)


def test_images_that_stay_cost_the_time_of_the_client_alone():
    (some,), (all_of_them,) = board(0.25)[0].rows, board(None)[0].rows
    assert some.client_ms == all_of_them.client_ms
    assert some.server_ms == all_of_them.server_ms
    on_the_way = LINK.transfer_ms(some.payload_bytes_mean / 0.25) + some.server_ms
    assert some.end_to_end_ms == pytest.approx(some.client_ms + 0.25 * on_the_way)
