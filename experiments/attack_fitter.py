"""Fits the attacks of a job, those at all cuts side by side."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from experiments.job import Job
from experiments.store import Product, digest
from experiments.target import Target
from splitbench.attack import Attack
from splitbench.fitting import fit_together
from splitbench.pool import Spent
from splitbench.progress import Progress
from splitbench.rng import stream


@dataclass(frozen=True)
class Fitted:
    """An attack that is ready for its targets, and what that took.

    Attributes:
        attack: The fitted attack.
        pieces: Seconds spent fitting it and each of its parts, by expression: what several parts
            build on was fitted once.
        spent: What it queried for that, its parts included.
    """

    attack: Attack
    pieces: Mapping[str, float]
    spent: Spent

    @property
    def seconds(self) -> float:
        """Spent fitting it and its parts, when it was fitted."""
        return sum(self.pieces.values())


class AttackFitter:
    """Fits one attack at all cuts side by side; what is in the store is not fitted again."""

    def __init__(
        self,
        job: Job,
        targets: Mapping[str, Target],
        on_step: Callable[[str, Progress], None],
    ) -> None:
        """Fit for these targets, by cut name; `on_step` is told of every step, by curve name."""
        self.job = job
        self.targets = targets
        self.on_step = on_step
        self._fitted: dict[tuple[str, str], Fitted] = {}

    def fit(self, attacks: Mapping[str, Attack]) -> dict[str, Fitted | Exception]:
        """Return the fitted attack at each cut, or what went wrong there."""
        ready: dict[str, Fitted | Exception] = {}
        fresh: dict[str, tuple[Attack, list[Fitted]]] = {}
        for cut, (attack, parts) in self._with_parts(attacks).items():
            if isinstance(attack, Exception):
                ready[cut] = attack
                continue
            known = self._recall(cut, attack)
            if known is None:
                fresh[cut] = attack, parts
            else:
                ready[cut] = known
        ready.update(self._learn(fresh))
        for cut, outcome in ready.items():
            if isinstance(outcome, Fitted):
                self._fitted[cut, repr(attacks[cut])] = outcome
        return ready

    def _with_parts(
        self, attacks: Mapping[str, Attack]
    ) -> dict[str, tuple[Attack | Exception, list[Fitted]]]:
        """Fit the attacks that each attack builds on, and hand them over."""
        count = max((len(a.parts()) for a in attacks.values()), default=0)
        outcomes = [
            self.fit({cut: a.parts()[i] for cut, a in attacks.items()}) for i in range(count)
        ]
        result: dict[str, tuple[Attack | Exception, list[Fitted]]] = {}
        for cut, attack in attacks.items():
            parts = [outcome[cut] for outcome in outcomes]
            broken = [p for p in parts if isinstance(p, Exception)]
            whole = [p for p in parts if isinstance(p, Fitted)]
            if broken:
                result[cut] = broken[0], []
            elif whole:
                result[cut] = attack.with_parts(tuple(p.attack for p in whole)), whole
            else:
                result[cut] = attack, []
        return result

    def _key(self, cut: str, attack: Attack) -> str:
        job = self.job
        return digest(
            {
                "deployment": self.targets[cut].key,
                "threat": job.config["threat"],
                "seed": job.seed,
                "attack": repr(attack),
                "auxiliary": job.roles.auxiliary.fingerprint(),
                "calibration": job.roles.calibration.fingerprint(),
            }
        )

    def _recall(self, cut: str, attack: Attack) -> Fitted | None:
        known = self._fitted.get((cut, repr(attack)))
        key = self._key(cut, attack)
        if known is not None or not self.job.store.has("attack", key):
            return known
        product = self.job.store.product("attack", key, Product)
        surface = self.job.surface(self.targets[cut], attack, "fit")
        attack.import_state(product.tensors, surface)
        facts = product.facts
        spent = Spent(queries=int(facts["queries"]), pooled=int(facts["pooled"]))
        return Fitted(attack, facts["pieces"], spent)

    def _learn(
        self, attacks: Mapping[str, tuple[Attack, list[Fitted]]]
    ) -> dict[str, Fitted | Exception]:
        if not attacks:
            return {}
        seed, last = self.job.seed, list(attacks)[-1]
        surfaces = {
            cut: self.job.surface(
                self.targets[cut],
                attack,
                "fit",
                spent=Spent.together([part.spent for part in parts]),
            )
            for cut, (attack, parts) in attacks.items()
        }
        fittings = {
            cut: attack.fitting(surfaces[cut], generator=stream(seed, "attack", repr(attack), cut))
            for cut, (attack, _) in attacks.items()
        }
        kind = type(next(iter(attacks.values()))[0]).__name__
        with self.job.reporter.stage(f"fitting {kind} at {len(attacks)} cuts") as meter:

            def on_step(cut: str, progress: Progress) -> None:
                self.on_step(f"{cut}/{kind}", progress)
                if cut == last:
                    meter(progress.step, progress.steps, progress.loss)

            fits = fit_together(fittings, on_step)
        outcome: dict[str, Fitted | Exception] = {}
        for cut, (attack, parts) in attacks.items():
            error = fits[cut].error
            pieces = {k: v for part in parts for k, v in part.pieces.items()}
            pieces[repr(attack)] = fits[cut].seconds
            spent = surfaces[cut].spent
            outcome[cut] = error or Fitted(attack, pieces, spent)
            if error is None:
                product = Product(attack.export_state(), {"pieces": pieces, **asdict(spent)})
                self.job.store.put("attack", self._key(cut, attack), product)
        return outcome
