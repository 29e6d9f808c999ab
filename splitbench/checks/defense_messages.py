"""What must hold for every message of a defense: randomness, gradients, independence."""

import torch
from scipy import stats
from torch import Tensor

from splitbench.checks.defense_world import DefenseWorld
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.release import Tensors
from splitbench.rng import stream

COPIES = 16  # of one image in a batch
HALF = 0.5  # of the images
BY_CHANCE = 1e-6  # how seldom an honest law looks like another


def check_stochastic_is_honest(defense: Defense, world: DefenseWorld) -> None:
    """Messages under different seeds differ exactly where `stochastic` says so."""
    deployed = world.fitted(defense)
    one, other = (
        deployed.release(world.targets, generator=stream(seed, "message")).tensors
        for seed in (1, 2)
    )
    differ = not equal(one, other)
    assert differ == defense.stochastic, (
        f"messages under two seeds {'differ' if differ else 'are equal'}: set "
        f"stochastic = {differ}, or draw all randomness from the generator argument"
    )


def check_fresh_noise_between_messages(defense: Defense, world: DefenseWorld) -> None:
    """One generator never gives the same noise twice."""
    if not defense.stochastic:
        return
    deployed = world.fitted(defense)
    generator = stream(0, "message")
    first = deployed.release(world.targets, generator=generator).tensors
    second = deployed.release(world.targets, generator=generator).tensors
    assert not equal(first, second), (
        "two messages of one image are equal: draw new noise in every call, keep none"
    )


def check_fresh_noise_within_a_batch(defense: Defense, world: DefenseWorld) -> None:
    """The examples of one batch get noise of their own."""
    if not defense.stochastic:
        return
    deployed = world.fitted(defense)
    # So many that a mask of three channels does not fall alike on all of them by chance.
    same = _sent(deployed, world.targets)[:1].repeat(COPIES, 1, 1, 1)
    sent = deployed.release(same, generator=stream(0, "message")).tensors
    assert any(not torch.equal(t, t[:1].expand_as(t)) for t in sent), (
        "the examples of a batch got the same noise: draw it with the batch axis"
    )


def check_differentiable_is_honest(defense: Defense, world: DefenseWorld) -> None:
    """Gradients flow through `protect` exactly where `differentiable` says so."""
    deployed = world.fitted(defense)
    features = tuple(f.clone().requires_grad_() for f in deployed.features(world.targets))
    sent = deployed.defense.protect(features, generator=stream(0, "message"))
    # Unequal weights, lest a defense that normalises its output has a gradient of zero.
    total = torch.stack(
        [(t * torch.linspace(1, 2, t[0].numel()).view(t[0].shape)).sum() for t in sent]
    )
    flows = total.requires_grad
    if flows:
        gradients = torch.autograd.grad(total.sum(), features, allow_unused=True)
        flows = all(g is not None and bool(g.isfinite().all() and g.any()) for g in gradients)
    assert flows == defense.differentiable, (
        f"the gradient of protect is {'there' if flows else 'missing, zero or not finite'}: set "
        f"differentiable = {flows}, or let gradients through"
    )


def check_mismatch_can_be_followed(defense: Defense, world: DefenseWorld) -> None:
    """What a search descends has a slope, also where the defense itself has none.

    A gradient that is hidden protects against one kind of attack only: a defense hands over what
    a search can follow, straight through where it rounds (BPDA; Athalye, Carlini, Wagner. ICML
    2018. arXiv:1802.00420). Half of the images need not have a slope: where all of a message was
    erased there may be none.
    """
    deployed = world.fitted(defense)
    images = _sent(deployed, world.targets)
    release = deployed.release(images, generator=stream(0, "message"))
    features = deployed.features(images)
    guess = tuple(f.roll(1, 0).requires_grad_() for f in features)
    wrong = deployed.mismatch(release, guess)
    worse = wrong.detach() > deployed.mismatch(release, features) + 1e-6
    flows = wrong.requires_grad or not worse.any()
    if wrong.requires_grad:
        slopes = torch.autograd.grad(wrong.sum(), guess, allow_unused=True)
        steep = torch.stack([s.flatten(1).abs().sum(1) for s in slopes if s is not None]).sum(0)
        led = not worse.any() or float((steep[worse] > 0).float().mean()) > HALF
        flows = led and bool(steep.isfinite().all())
    assert flows, (
        "features of another image explain a release worse than the true ones do, and no slope "
        "leads away from them: searches stand still, which protects nobody; let gradients through "
        "expected or negative_log_likelihood, straight through where they round"
    )


def check_protects_in_eval_mode_too(defense: Defense, world: DefenseWorld) -> None:
    """Training mode and eval mode release the same."""
    deployed = world.fitted(defense)
    features = deployed.features(world.targets)
    modes = [
        deployed.defense.train(training).protect(features, generator=stream(0, "message"))
        for training in (True, False)
    ]
    assert equal(*modes), (
        "the release depends on the training mode: inference runs in eval mode, where dropout and "
        "its like stop; protect must not look at self.training"
    )


def check_protect_is_pure(defense: Defense, world: DefenseWorld) -> None:
    """`protect` changes neither the features that it is lent nor the state of the defense."""
    deployed = world.fitted(defense)
    features = deployed.features(world.targets)
    copies = tuple(f.clone() for f in features)
    before = {name: value.clone() for name, value in deployed.defense.state_dict().items()}
    deployed.defense.protect(features, generator=stream(0, "message"))
    assert equal(features, copies), "protect changed the features in place: work on copies"
    after = deployed.defense.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert not changed, f"protect changed {changed}: learn in fit, nothing afterwards"


def check_examples_do_not_mix(defense: Defense, world: DefenseWorld) -> None:
    """What is released for one image does not depend on the others of its batch."""
    deployed = world.fitted(defense)
    first, half = world.targets[:1], len(world.targets) // 2
    batches = [
        torch.cat([first, world.targets[1:half]]),
        torch.cat([first, world.targets[half + 1 :]]),
    ]
    one, other = (
        deployed.release(batch, generator=stream(0, "message")).tensors for batch in batches
    )
    pairs = zip(one, other, strict=True)
    assert all(torch.allclose(a[0], b[0], rtol=1e-5, atol=1e-6) for a, b in pairs), (
        "the release of an image changes with its batch: a device sees one image; use no "
        "statistics of the batch, and batch normalisation only in eval mode"
    )


def check_normal_is_honest(defense: Defense, world: DefenseWorld) -> None:
    """Where `normal` says so, messages scatter normally, as much as `signal_and_noise` tells."""
    deployed = world.fitted(defense)
    images = _sent(deployed, world.targets).repeat(COPIES, 1, 1, 1)
    features = deployed.features(images)
    known = deployed.defense.signal_and_noise(features)
    if not defense.normal or known is None:
        return
    sent = deployed.defense.protect(features, generator=stream(0, "message"))
    parts = zip(sent, *known, strict=True)
    scores = torch.cat([((z - signal) / var.sqrt()).flatten() for z, signal, var in parts])
    likely = stats.kstest(scores.double().cpu().numpy(), "norm").pvalue
    assert likely > BY_CHANCE, (
        "messages do not scatter normally with the variance that signal_and_noise tells "
        f"(Kolmogorov-Smirnov, p = {likely:.1g}): correct it, or set normal = False"
    )


def check_likelihood_prefers_the_truth(defense: Defense, world: DefenseWorld) -> None:
    """The likelihood, where there is one, speaks for the features that were released."""
    deployed = world.fitted(defense)
    images = _sent(deployed, world.targets)
    features = deployed.features(images)
    for k in (1, 2, 3):
        release = deployed.release(images, generator=stream(k, "message"), observations=k)
        surprise = [
            deployed.defense.negative_log_likelihood(release.tensors, guess, observations=k)
            for guess in (features, tuple(f.roll(1, 0) for f in features))
        ]
        truth, other = surprise
        if truth is None or other is None:
            return
        assert defense.stochastic, "nothing is random: return None, the codec's distance is used"
        assert tuple(truth.shape) == (len(images),), (
            f"the likelihood has shape {tuple(truth.shape)}: return one value per example"
        )
        assert bool(truth.isfinite().all() and other.isfinite().all()), (
            "the likelihood is not finite: no noise may have scale zero"
        )
        assert float(truth.mean()) < float(other.mean()), (
            f"{k} releases speak for the features of another image: return the negative "
            "logarithm, for what pool keeps"
        )


def _sent(deployed: Deployment, images: Tensor) -> Tensor:
    """Those of which a message is sent; all where the defense has no exits."""
    sent = deployed.release(images, generator=stream(0, "message")).sent
    return images if sent is None else images[sent]


def equal(one: Tensors, other: Tensors) -> bool:
    """Whether two releases are the same, bit for bit."""
    return len(one) == len(other) and all(map(torch.equal, one, other))
