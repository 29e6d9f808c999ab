"""One job: one (data, model, defense, codec, threat, seed) over cuts and a suite of attacks."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from experiments.compose import build, source_digest
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.images import roles_of
from experiments.store import Product, Store, digest
from experiments.target import Target
from splitbench.codec import Codec
from splitbench.codecs.float32 import Float32
from splitbench.data.images import Roles
from splitbench.defense import Defense
from splitbench.deployment import Deployment, SharedClient
from splitbench.described import Described
from splitbench.feed import Feed
from splitbench.placement import here, on_the_cpu
from splitbench.pool import NOTHING, Pool, Spent
from splitbench.private_training import PrivateTraining
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream
from splitbench.shadow import Traffic
from splitbench.split import Cut, CutError, Cuttable, Split, Taps
from splitbench.threat import Surface, ThreatModel
from splitbench.training import Training, accuracy

PROBE = 2  # images sent through a deployment to learn the shapes of its release


class Job:
    """The products that the cells of a job share, made on demand and kept in the store."""

    def __init__(self, config: Mapping[str, Any], store: Store, reporter: Reporter) -> None:
        """Hold a resolved configuration; nothing is computed yet."""
        self.config = dict(config)
        self.store = store
        self.reporter = reporter
        self.seed = int(config["seed"])
        self.code = source_digest()
        self._held: dict[str, Deployment] = {}
        self._pools: dict[str, Pool] = {}
        self._traffic: dict[str, Traffic] = {}
        self._targets: dict[str, Target] = {}

    @cached_property
    def roles(self) -> Roles:
        """The four parts of the data."""
        with on_the_cpu():
            roles = roles_of(self.config, self.threat)
        return roles.to(here())

    @cached_property
    def threat(self) -> ThreatModel:
        """The adversary."""
        threat = build(self.config["threat"])
        if not isinstance(threat, ThreatModel):
            raise UserError("threat: must describe a splitbench.threat.ThreatModel")
        return threat

    @cached_property
    def example(self) -> Tensor:
        """One blank image, for tracing."""
        return torch.zeros(1, *self.roles.train.shape)

    @cached_property
    def model_key(self) -> str:
        """Names the trained model."""
        parts = {k: self.config[k] for k in ("model", "training", "seed")}
        return digest({**parts, "train": self.roles.train.fingerprint(), "code": self.code})

    @property
    def training(self) -> Training | PrivateTraining:
        """How the task model is trained."""
        training = build(self.config["training"])
        if not isinstance(training, Training | PrivateTraining):
            raise UserError("training: must describe a way to train, such as training=default")
        return training

    def untrained_model(self) -> nn.Module:
        """The task model with its first weights."""
        with isolated(stream(self.seed, "model", "initialisation")):
            model: nn.Module = build(self.config["model"])(
                image_shape=self.roles.train.shape, classes=len(self.roles.train.classes)
            )
        return model.to(here())

    @cached_property
    def model(self) -> nn.Module:
        """The task model, trained once per (data, model, seed) and shared by all jobs."""
        model = self.untrained_model()

        def make() -> Product:
            with self.reporter.stage("training the task model") as meter:
                try:
                    self.training.fit(
                        model,
                        self.roles.train,
                        generator=stream(self.seed, "model", "training"),
                        on_step=lambda p: meter(p.step, p.steps, p.loss),
                    )
                except ValueError as error:
                    raise UserError(f"training: {error}") from error
            self._warn_if_useless(model)
            return Product(model.state_dict())

        model.load_state_dict(dict(self.store.product("model", self.model_key, make).tensors))
        return model.eval().requires_grad_(False)

    def _warn_if_useless(self, model: nn.Module) -> None:
        """What leaks from a model that has learnt nothing is of no interest."""
        train = self.roles.train
        majority = float(torch.bincount(train.labels).max()) / len(train)
        if accuracy(model, train).low <= majority:
            self.reporter.say(
                "[yellow]the task model does no better on its own training images than the most "
                "frequent class: lower training.learning_rate, or raise training.epochs[/yellow]"
            )

    @cached_property
    def cuttable(self) -> Cuttable:
        """The trained model, traced once."""
        return Cuttable(self.model, self.example)

    @cached_property
    def cuts(self) -> list[Cut]:
        """The cuts that this job attacks; known before anything is trained."""
        wanted = self.config["cuts"]
        cuttable = Cuttable(self.untrained_model().eval(), self.example)
        if wanted in ("module", "tensor", "all"):
            return cuttable.cuts(wanted)
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        try:
            return [cuttable.find(name) for name in names]
        except CutError as error:
            raise UserError(str(error)) from error

    @cached_property
    def shared(self) -> SharedClient:
        """The undefended features at every cut of the job, one forward per batch."""
        return SharedClient(Taps(self.model, self.example, [cut.name for cut in self.cuts]))

    def deployment_key(self, cut: Cut) -> str:
        """Names a fitted deployment."""
        parts = {k: self.config[k] for k in ("defense", "codec", "seed")}
        return digest({**parts, "model": self.model_key, "cut": cut.name})

    def protection(self) -> tuple[Defense, Codec]:
        """A new defense, not yet fitted, and the codec where the defense has none of its own."""
        defense, codec = build(self.config["defense"]), build(self.config["codec"])
        if not isinstance(defense, Defense) or not isinstance(codec, Codec):
            raise UserError("defense and codec must describe a Defense and a Codec")
        return defense, codec

    def deployment(self, cut: Cut) -> Deployment:
        """Cut, adapt, fit (or load), freeze."""
        defense, plain_codec = self.protection()
        parts = self._adapted(defense, self.cuttable, cut)
        for module in (parts.client, parts.server, defense):
            module.to(here())

        def make() -> Product:
            began = time.perf_counter()
            stage = self.reporter.stage(f"fitting the defense at {cut.name}")
            with stage as meter, _refusals(cut):
                defense.fit(
                    parts,
                    self.roles.train,
                    generator=stream(self.seed, "defense", cut.name),
                    on_step=lambda p: meter(p.step, p.steps, p.loss),
                )
            return Product(_state(defense, parts), {"seconds": time.perf_counter() - began})

        product = self.store.product("deployment", self.deployment_key(cut), make)
        _load_state(defense, parts, product.tensors)
        for module in (parts.client, parts.server, defense):
            module.eval().requires_grad_(False)
        from defenses.no_defense import NoDefense

        deployment = Deployment(
            split=parts,
            defense=defense,
            codec=defense.codec or plain_codec,
            specs=(),
            plain=(NoDefense(), plain_codec),
            shared=None if defense.changes_client else self.shared,
            seconds=float(product.facts["seconds"]),
        )
        probe = self.roles.calibration.images(slice(0, PROBE))
        deployment = _with_specs(deployment, probe)
        if not defense.changes_client:
            return deployment
        return _with_original(deployment, self.cuttable.split(cut).client, probe)

    def check_fit(self) -> None:
        """Adapt the untrained model at every cut, so that a defense that does not fit says so."""
        if not self.protection()[0].changes_client:
            return
        cuttable = Cuttable(self.untrained_model().eval(), self.example)
        for cut in self.cuts:
            self._adapted(self.protection()[0], cuttable, cut)

    def _adapted(self, defense: Defense, cuttable: Cuttable, cut: Cut) -> Split:
        with isolated(stream(self.seed, "defense", "initialisation", cut.name)), _refusals(cut):
            return defense.adapt(cuttable.split(cut))

    def target(self, cut: Cut) -> Target:
        """The target images at one cut, released as real bytes."""
        if cut.name not in self._targets:
            self._targets[cut.name] = Target(
                key=self.deployment_key(cut),
                deployment=self.deployment(cut),
                images=self.roles.target.images(),
                seed=self.seed,
                names=("release", cut.name),
                observations=self.threat.observations,
            )
        return self._targets[cut.name]

    @cached_property
    def auxiliary_feed(self) -> Feed:
        """The adversary's batches, the same for every cut and attack."""
        return Feed(self.roles.auxiliary, seed=self.seed)

    @cached_property
    def calibration_feed(self) -> Feed:
        """The judge's data, from which the floors are learnt under every threat model."""
        return Feed(self.roles.calibration, seed=self.seed, validation_fraction=0.0, flip=False)

    def surface(
        self, target: Target, attack: Described, purpose: str, *, spent: Spent = NOTHING
    ) -> Surface:
        """What the job's adversary may touch at one cut, for one attack and purpose.

        `spent` is what that attack has queried already, its parts included. All attacks at one
        cut are given the same pool and the same traffic; each pays for the pool itself.
        """
        key, threat, feed = target.key, self.threat, self.auxiliary_feed
        if threat.query_budget is not None and key not in self._pools:
            self._pools[key] = Pool.of(target.deployment, threat, feed, seed=self.seed)
        if key not in self._held:
            self._held[key] = target.deployment.held_by(threat, seed=self.seed)
        if key not in self._traffic:
            self._traffic[key] = Traffic(
                target.deployment,
                self.roles.calibration,
                observations=threat.observations,
                seed=self.seed,
            )
        return self._surface(
            target,
            attack,
            purpose,
            threat,
            feed,
            spent=spent,
            pool=self._pools.get(key),
            traffic=self._traffic[key],
            held=self._held[key],
        )

    def judges_surface(self, target: Target, floor: Described) -> Surface:
        """For the floors: calibration data and every access, whatever the threat model."""
        threat = ThreatModel(observations=self.threat.observations)
        return self._surface(target, floor, "floor", threat, self.calibration_feed)

    def pixels(self) -> Target:
        """The targets themselves as a release: what is to be had where nothing is hidden."""
        from defenses.no_defense import NoDefense

        split = self.cuttable.split(self.cuttable.find("input"))
        plain = NoDefense(), Float32()
        deployment = Deployment(split, *plain, specs=(), plain=plain)
        deployment = _with_specs(deployment, self.roles.calibration.images(slice(0, PROBE)))
        return Target("pixels", deployment, self.roles.target.images(), seed=0, names=("pixels",))

    def ceilings_surface(self, pixels: Target, inference: Described) -> Surface:
        """For the ceilings: the adversary's own data, as many queries as it takes, and pixels."""
        return self._surface(pixels, inference, "ceiling", ThreatModel(), self.auxiliary_feed)

    def _surface(
        self,
        target: Target,
        attack: Described,
        purpose: str,
        threat: ThreatModel,
        feed: Feed,
        *,
        spent: Spent = NOTHING,
        pool: Pool | None = None,
        traffic: Traffic | None = None,
        held: Deployment | None = None,
    ) -> Surface:
        return Surface(
            target.deployment,
            threat,
            feed=feed,
            classes=len(self.roles.target.classes),
            image_shape=self.roles.target.shape,
            seed=self.seed,
            purpose=f"{purpose} {attack!r}",
            spent=spent,
            pool=pool,
            traffic=traffic,
            held=held,
        )


@contextmanager
def _refusals(cut: Cut) -> Iterator[None]:
    """What a defense has against a model, a cut or data is for the user to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"the defense at {cut.name}: {error}") from error


def _with_specs(deployment: Deployment, probe: Tensor) -> Deployment:
    sent = deployment.transmit(probe, generator=stream(0, "probe"))
    specs = tuple(
        TensorSpec(f"tensor{i}", tuple(t.shape[1:]), str(t.dtype).removeprefix("torch."))
        for i, t in enumerate(sent.tensors)
    )
    return replace(deployment, specs=specs)


def _with_original(deployment: Deployment, client: nn.Module, probe: Tensor) -> Deployment:
    """Keep the undefended client where the shapes of messages do not show that it was changed."""
    client = client.to(here()).requires_grad_(False)
    with torch.no_grad():
        shapes = [tuple(features.shape[1:]) for features in client(probe)]
    alike = shapes == [spec.shape for spec in deployment.specs]
    return replace(deployment, original=client) if alike else deployment


def _state(defense: Defense, parts: Split) -> dict[str, Tensor]:
    modules = {"defense": defense, "client": parts.client, "server": parts.server}
    return {
        f"{name}/{key}": value.clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def _load_state(defense: Defense, parts: Split, tensors: Mapping[str, Tensor]) -> None:
    modules = {"defense": defense, "client": parts.client, "server": parts.server}
    for name, module in modules.items():
        prefix = f"{name}/"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        module.load_state_dict(state)
