"""Query budgets across the attacks of a job: one pool at each cut, which each attack pays once."""

import pytest
from hydra import compose, initialize_config_module

from attacks.class_mean import ClassMean
from attacks.inverse_network import InverseNetwork
from attacks.likelihood_maximization import PROBES, LikelihoodMaximization
from attacks.ridge import Ridge
from experiments.attack_fitter import AttackFitter
from experiments.compose import plain
from experiments.console import Reporter
from experiments.job import Job
from experiments.store import Store
from splitbench.pool import FREE, Spent
from splitbench.rng import stream

CUT = "relu3"
BUDGET = 100
POOL = Spent(queries=BUDGET - FREE, pooled=BUDGET - FREE)
DECODER = {"width": 8, "blocks": 1, "heads": 0, "patch": 4, "batch_size": 16, "steps": 5}


def searching(warm_start):
    return LikelihoodMaximization(steps=5, weights=(0.1, 10.0), warm_start=warm_start)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def opened(runs, **threat):
    overrides = [f"threat.{key}={value}" for key, value in threat.items()]
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=["debug=smoke", f"cuts=[{CUT}]", *overrides])
    return Job(plain(config), Store(runs), Reporter("test", interactive=False))


def fitted(job, *attacks):
    """What each attack spent, fitted one after the other, and the images that the device saw."""
    cut = job.cuttable.find(CUT)
    targets = {CUT: job.target(cut)}
    seen = []
    job.shared.taps.register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    fitter = AttackFitter(job, targets, lambda name, progress: None)
    return [fitter.fit({CUT: attack})[CUT].spent for attack in attacks], sum(seen)


def test_each_attack_pays_for_the_pool_and_the_device_is_asked_once(runs):
    attacks = Ridge(), ClassMean(), InverseNetwork(**DECODER)
    spent, sent = fitted(opened(runs, client="query", query_budget=BUDGET), *attacks)
    assert spent == [POOL] * 3
    assert sent == POOL.queries


def test_a_warm_start_shares_the_pool_with_the_search_and_probes_are_counted(runs):
    decoder = InverseNetwork(**DECODER, learning_rate=0.01)
    spent, sent = fitted(opened(runs, query_budget=BUDGET), searching(decoder))
    assert spent == [Spent(queries=POOL.queries + PROBES, pooled=POOL.pooled)]
    assert sent == POOL.queries + PROBES


def test_what_a_search_spends_does_not_depend_on_what_is_in_the_store(runs):
    fitted(opened(runs, query_budget=BUDGET + 1), Ridge())
    spent, _ = fitted(opened(runs, query_budget=BUDGET + 1), searching(Ridge()))
    again, sent = fitted(opened(runs, query_budget=BUDGET + 1), searching(Ridge()))
    assert spent == again == [Spent(queries=BUDGET + 1 - FREE + PROBES, pooled=BUDGET + 1 - FREE)]
    assert sent == 0


def test_what_is_spent_after_the_fitting_counts_too(runs):
    job = opened(runs, query_budget=BUDGET)
    target = job.target(job.cuttable.find(CUT))
    surface = job.surface(target, Ridge(), "recover", spent=POOL)
    assert surface.remaining == FREE
    list(surface.pairs())
    assert surface.remaining == FREE


def test_traffic_is_of_others_and_of_no_one_the_adversary_knows(runs):
    job = opened(runs, client="architecture")
    target = job.target(job.cuttable.find(CUT))
    observed = job.surface(target, Ridge(), "fit").observed(10_000).tensors[0]
    others = job.roles.calibration.images()
    expected = target.deployment.release(others, generator=stream(0, "any")).tensors[0]
    assert observed.shape == expected.shape
    assert (observed - expected).abs().max() < 1e-5
