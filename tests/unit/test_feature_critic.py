"""The discriminator of the shadow client: it sees what moments do not, and teaches it."""

import pytest
import torch

from attacks.feature_alignment import Reference
from attacks.feature_critic import SHARE, Critic
from splitbench.rng import stream

N, LESSONS = 256, 300
SHAPES = {"map": (6, 3, 3), "tokens": (4, 6)}


def normal(shape, name):
    return torch.randn(N, *shape, generator=stream(0, name))


def two_valued(shape, name):
    """Mean 0, deviation 1, uncorrelated: the moments of a normal sample."""
    return normal(shape, name).sign()


def taught(shape, observed, other):
    """A discriminator after lessons on releases of another kind, and the moments alone."""
    seen = (observed(shape, "observed"),)
    critic, draws = Critic(seen, generator=stream(0, "critic")), stream(0, "draws")
    for _ in range(LESSONS):
        batch = other(shape, "other")[torch.randint(N, (64,), generator=draws)]
        critic.mismatch((batch,), generator=draws)
    return critic, Reference(seen, "moments")


def recognised(critic, moments, released):
    """What the discriminator adds to the moments."""
    draws = stream(0, "draws")
    both = [one.mismatch((released,), generator=draws) for one in (critic, moments)]
    return (both[0] - both[1]) / SHARE


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_sees_what_moments_do_not(shape):
    found = {}
    for other in (normal, two_valued):
        critic, moments = taught(shape, normal, other)
        released = other(shape, "other")
        assert float(moments.mismatch((released,), generator=stream(0, "draws"))) < 0.02
        found[other] = float(recognised(critic, moments, released).detach())
    assert found[two_valued] > found[normal] + 0.03


def test_its_gradient_leads_to_what_was_observed():
    critic, moments = taught((6,), two_valued, normal)
    values, bend = normal((6,), "other"), torch.zeros((), requires_grad=True)
    released = torch.lerp(values, values.sign(), bend)
    (slope,) = torch.autograd.grad(recognised(critic, moments, released), bend)
    assert float(slope) < -0.03


def test_equal_seeds_make_equal_networks_and_leave_global_randomness_alone():
    observed = (normal((6,), "observed"), normal((4, 6), "tokens"))
    before = torch.random.get_rng_state()
    first, second = (
        Critic(observed, generator=stream(0, "critic")).mismatch(observed, generator=stream(0, "d"))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
