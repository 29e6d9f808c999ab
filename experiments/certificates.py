"""What follows, under a named prior, from how much a message can say at most."""

from collections.abc import Mapping
from typing import Any

import torch

from experiments.costs import on_cpu
from experiments.job import Job
from splitbench.certificate import noise_certificate, rate_certificate
from splitbench.deployment import Deployment
from splitbench.fisher import NotApplicableError
from splitbench.normal_prior import NormalPrior
from splitbench.placement import on_the_cpu
from splitbench.rng import stream

IMAGES = 1000  # calibration images behind the covariance
DIRECTIONS = 64  # principal ones that van Trees' inequality is asked about: most of the variance
DRAWS = 8  # images from the prior, each with a forward pass of every direction
BINDING_DRAWS = 128  # where attacks are held against what they say
CONFIDENCE = 0.999  # that chance in those draws does not make the bound too large


def prior_of(job: Job) -> NormalPrior | None:
    """The law that the images are drawn from, where it is known; else one that is estimated."""
    return job.roles.prior or calibration_prior(job)


def calibration_prior(job: Job) -> NormalPrior | None:
    """Normal images with the mean and covariance of the calibration role; None where they are one.

    Nothing says that any data set's images are drawn from it.
    """
    images = job.roles.calibration.images(slice(0, IMAGES)).cpu()
    if len(images) < 2 or not bool(images.std(0).any()):
        return None
    with on_the_cpu():
        return NormalPrior.of_images(
            images,
            name=f"a normal prior with the covariance of {len(images)} calibration images",
            applies="nothing says that these images are drawn from it",
        )


def certificates_of(
    deployment: Deployment, prior: NormalPrior | None, *, observations: int, seed: int
) -> dict[str, Any]:
    """Fields of a record: the certificates, and why one is missing where it is not computable.

    Args:
        deployment: The fitted system.
        prior: Of the images; None where there is none to name.
        observations: Releases of each image that the adversary sees.
        seed: Of the draws from the prior.
    """
    if prior is None:
        return {"certificates": (), "unavailable": {}}
    differ = observations if deployment.defense.stochastic else 1
    longest = deployment.codec.payload_bound(deployment.specs)
    unavailable: Mapping[str, str] = {}
    binds = prior.applies is True
    with on_the_cpu(), torch.no_grad():
        found = [rate_certificate(prior, payload_bytes=longest, messages=differ)]
        client, defense = on_cpu(deployment.split.client), on_cpu(deployment.defense)
        try:
            noise = noise_certificate(
                client,
                defense,
                prior,
                observations=observations,
                directions=DIRECTIONS,
                draws=BINDING_DRAWS if binds else DRAWS,
                confidence=CONFIDENCE if binds else None,
                generator=stream(seed, "certificate", deployment.split.cut.name),
            )
            found.append(noise)
        except NotApplicableError:
            pass  # no noise of finite information: there is nothing to certify
        except NotImplementedError as error:
            unavailable = {"certificate": f"torch has no forward derivative: {error}"}
    return {
        "certificates": tuple(one.to_record() for one in found),
        "unavailable": unavailable,
    }
