"""Privacy curves and what they bound, against published values, mpmath and simulation."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from splitbench.gaussian_dp import classic_mu_of, delta_of, epsilon_of, mu_of, noise_std
from splitbench.guarantee import NO_GUARANTEE, local_privacy
from splitbench.guessing import bounded_guess, gaussian_guess, gaussian_reconstruction
from splitbench.rng import stream

EPSILONS = (0.0, 1e-3, 0.1, 1.0, 8.0, 100.0, 2000.0)
MUS = (1e-4, 0.1, 1.0, 5.0, 30.0, 100.0)


def delta_in_sixty_digits(epsilon, mu):
    with mpmath.workdps(60):
        e, m = mpmath.mpf(epsilon), mpmath.mpf(mu)
        return mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m)


def test_the_privacy_curve_has_its_known_values():
    """O34."""
    assert delta_of(epsilon=1, mu=1) == pytest.approx(0.126937, abs=5e-7)
    stds = [noise_std(epsilon=e, delta=1e-5, sensitivity=1) for e in (0.5, 1, 2, 8)]
    assert stds == pytest.approx([7.0318, 3.730632, 1.9938, 0.6002], abs=5e-5)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("mu", MUS)
def test_the_privacy_curve_equals_sixty_digits_of_it(epsilon, mu):
    exact = delta_in_sixty_digits(epsilon, mu)
    ours = delta_of(epsilon=epsilon, mu=mu)
    if exact < mpmath.mpf("1e-300"):
        assert ours < 1e-290
    else:
        assert ours == pytest.approx(float(exact), rel=1e-10)


@given(
    epsilon=st.floats(1e-3, 1e3),
    log_delta=st.floats(math.log(1e-30), math.log(0.5)),
)
def test_the_noise_is_enough_and_no_more(epsilon, log_delta):
    delta = math.exp(log_delta)
    mu = mu_of(epsilon=epsilon, delta=delta)
    assert delta_of(epsilon=epsilon, mu=mu) <= delta * (1 + 1e-12)
    assert delta_of(epsilon=epsilon, mu=1.0001 * mu) > delta
    assert epsilon_of(delta=delta, mu=mu) == pytest.approx(epsilon, rel=1e-9, abs=1e-9)


def test_less_epsilon_or_delta_asks_for_more_noise():
    by_epsilon = [noise_std(epsilon=e, delta=1e-5, sensitivity=1) for e in (0.0, 0.1, 1, 10, 100)]
    by_delta = [noise_std(epsilon=1, delta=d, sensitivity=1) for d in (1e-12, 1e-5, 0.1)]
    assert by_epsilon == sorted(by_epsilon, reverse=True)
    assert by_delta == sorted(by_delta, reverse=True)
    assert noise_std(epsilon=1, delta=1e-5, sensitivity=7) == pytest.approx(7 * 3.730632, rel=1e-6)


@given(epsilon=st.floats(1e-3, 1.0), log_delta=st.floats(math.log(1e-30), math.log(0.5)))
def test_up_to_epsilon_one_the_classic_formula_asks_for_more_noise_than_is_needed(
    epsilon, log_delta
):
    delta = math.exp(log_delta)
    mu = classic_mu_of(epsilon=epsilon, delta=delta)
    assert mu == pytest.approx(epsilon / math.sqrt(2 * math.log(1.25 / delta)))
    assert mu < mu_of(epsilon=epsilon, delta=delta)
    assert delta_of(epsilon=epsilon, mu=mu) < delta


def test_above_epsilon_one_the_classic_formula_would_ask_for_too_little_noise():
    """Why it is refused there: at some epsilon it promises what it does not keep."""
    epsilon, delta = 50.0, 1e-5
    classic = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    assert delta_of(epsilon=epsilon, mu=1 / classic) > 10 * delta
    with pytest.raises(ValueError, match="classic formula"):
        classic_mu_of(epsilon=epsilon, delta=delta)


def test_enough_privacy_without_any_epsilon_costs_none():
    assert epsilon_of(delta=0.5, mu=0.1) == 0.0
    assert epsilon_of(delta=1e-5, mu=0.0) == 0.0


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: delta_of(epsilon=-1, mu=1), "epsilon=-1"),
        (lambda: delta_of(epsilon=1, mu=math.inf), "mu=inf"),
        (lambda: mu_of(epsilon=1, delta=0), "no Gaussian noise has delta 0"),
        (lambda: epsilon_of(delta=1, mu=1), "delta=1"),
        (lambda: classic_mu_of(epsilon=1, delta=0), "no Gaussian noise has delta 0"),
        (lambda: classic_mu_of(epsilon=0, delta=0.1), "epsilon=0"),
        (lambda: noise_std(epsilon=1, delta=0.1, sensitivity=0), "sensitivity=0"),
        (lambda: bounded_guess(epsilon=-1, candidates=2), "epsilon=-1"),
        (lambda: bounded_guess(epsilon=1, candidates=0), "candidates=0"),
        (lambda: gaussian_guess(mu=-1, candidates=2), "mu=-1"),
        (lambda: gaussian_reconstruction(mu=1, prior=2), "prior=2"),
        (lambda: local_privacy(epsilon=1).best_reconstruction(prior=-1), "prior=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_messages_of_a_gaussian_mechanism_compose_by_the_root_of_their_number():
    """O37: sixteen messages are one with a quarter of the noise."""
    mu = mu_of(epsilon=1, delta=1e-5)
    one = local_privacy(epsilon=1, delta=1e-5, mu=mu)
    many = one.over(messages=16)
    assert many.mu == pytest.approx(4 * mu)
    assert many.epsilon == pytest.approx(epsilon_of(delta=1e-5, mu=4 * mu))
    assert delta_of(epsilon=many.epsilon, mu=4 * mu) <= 1e-5
    assert many.epsilon < 16  # less than adding up
    assert many == one.over(messages=4).over(messages=4)


def test_the_rate_of_naming_one_of_n_inputs_has_its_known_values():
    """O38, and the closed form for Gaussian noise."""
    rates = [bounded_guess(epsilon=e, candidates=n) for e, n in ((1, 10), (4, 1000), (8, 50257))]
    assert rates == pytest.approx([0.23197, 0.05182, 0.05599], abs=5e-6)
    gauss = [gaussian_reconstruction(mu=mu, prior=0.1) for mu in (0.5, 1, 2, 4)]
    assert gauss == pytest.approx([0.217, 0.389, 0.764, 0.997], abs=5e-4)
    rare = [gaussian_reconstruction(mu=mu, prior=1e-3) for mu in (0.5, 1, 2, 4)]
    assert rare == pytest.approx([0.0048, 0.0183, 0.138, 0.819], abs=5e-4)
    assert bounded_guess(epsilon=math.inf, candidates=7) == 1.0


def test_randomised_response_attains_the_bound_on_guesses():
    epsilon, n, draws = 2.0, 5, 200_000
    honest = math.exp(epsilon) / (math.exp(epsilon) + n - 1)
    generator = stream(0, "randomised response")
    truth = torch.randint(n, (draws,), generator=generator)
    lies = (truth + torch.randint(1, n, (draws,), generator=generator)) % n
    told = torch.where(torch.rand(draws, generator=generator) < honest, truth, lies)
    rate = float((told == truth).double().mean())
    assert rate == pytest.approx(bounded_guess(epsilon=epsilon, candidates=n), abs=4e-3)


@pytest.mark.parametrize("mu", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("n", [2, 10, 100])
def test_the_best_guess_among_equidistant_codewords_stays_under_the_gaussian_bound(mu, n):
    """O39: maximum likelihood over n codewords, each mu noise deviations from every other."""
    draws = 20_000
    seen = torch.randn(draws, n, generator=stream(n, "codewords"))
    seen[:, 0] += mu / math.sqrt(2)
    rate = float((seen.argmax(1) == 0).double().mean())
    error = 3 * math.sqrt(rate * (1 - rate) / draws)
    assert rate <= gaussian_guess(mu=mu, candidates=n) + error
    assert rate > 1 / n
    assert gaussian_guess(mu=mu, candidates=n) < gaussian_reconstruction(mu=mu, prior=1 / n)
    if n == 2:  # the bound is attained
        assert gaussian_guess(mu=mu, candidates=2) == pytest.approx(rate, abs=error)


def test_two_inputs_are_told_apart_as_well_as_two_normal_variables():
    for mu in (0.0, 0.3, 2.0, 8.0):
        exact = 0.5 * math.erfc(-mu / 2 / math.sqrt(2))
        assert gaussian_guess(mu=mu, candidates=2) == pytest.approx(exact, rel=1e-6)
    assert gaussian_guess(mu=3.0, candidates=1) == 1.0


def test_approximate_privacy_bounds_guesses_too():
    mu = mu_of(epsilon=2, delta=1e-3)
    guarantee = local_privacy(epsilon=2, delta=1e-3, mu=mu)
    loose = local_privacy(epsilon=2, delta=1e-3)
    pure = local_privacy(epsilon=2)
    best = [g.best_guess(candidates=10) for g in (guarantee, pure, loose)]
    assert best[0] < best[2]
    assert best[1] < best[2]
    assert bounded_guess(epsilon=0, delta=1, candidates=10) == 1


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_randomised_response_attains_the_bound_on_reconstruction(epsilon):
    """One of two values, sent truly e^epsilon times as often: from either prior of a reference."""
    honest = math.exp(epsilon) / (1 + math.exp(epsilon))
    pure = local_privacy(epsilon=epsilon)
    assert pure.best_reconstruction(prior=1 - honest) == pytest.approx(honest)
    assert pure.best_reconstruction(prior=0.0) == 0.0
    assert pure.best_reconstruction(prior=1.0) == 1.0
    assert NO_GUARANTEE.best_reconstruction(prior=0.0) == 1.0


def test_the_gaussian_bound_on_reconstruction_is_the_least_over_its_curve():
    mu, prior = 1.3, 0.05
    curve = [math.exp(e / 50) * prior + delta_of(epsilon=e / 50, mu=mu) for e in range(300)]
    assert gaussian_reconstruction(mu=mu, prior=prior) == pytest.approx(min(curve), rel=1e-4)
    epsilon, delta = 2.0, delta_of(epsilon=2.0, mu=mu)
    loose = local_privacy(epsilon=epsilon, delta=delta)
    tight = local_privacy(epsilon=epsilon, delta=delta, mu=mu)
    assert tight.best_reconstruction(prior=prior) < loose.best_reconstruction(prior=prior)


@pytest.mark.parametrize("mu", [0.2, 1.0, 2.5])
def test_the_rate_at_which_guesses_fit_an_unrelated_input_is_prior_enough(mu):
    """Two inputs of unequal rates, told apart at any threshold: what holds each row to its promise.

    The rate of the same guesses for an independent input is less than that of the best blind one
    wherever inputs are not equally likely, so this bound is the tighter one.
    """
    common = np.linspace(0.01, 0.99, 99)[:, None]  # rate of the input at mu; the other is at 0
    named = norm.sf(np.linspace(-4, 8, 241))  # how often it is named, if it was the other
    hits = norm.sf(norm.isf(named) - mu)
    right = common * hits + (1 - common) * (1 - named)
    often = common * hits + (1 - common) * named
    blind = common * often + (1 - common) * (1 - often)
    bound = norm.cdf(mu + norm.ppf(blind))
    assert (right <= bound).all()
    assert (bound - right).min() < 0.02  # and is nearly attained
