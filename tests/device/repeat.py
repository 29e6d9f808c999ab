"""Computes everything on the CPU and on the pretend device; prints what came of it as JSON.

Run with the names of what to compute, in a process of its own: the pretend device cannot be taken
back.
"""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

import tiny_attacks
import tiny_defenses
import tiny_inferences
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import attacks
import defenses
from attacks.mean_image import MeanImage
from attacks.ridge import Ridge
from experiments.compose import plain
from experiments.console import Reporter
from experiments.evaluate import evaluate
from experiments.store import Store
from splitbench.attack import Attack
from splitbench.checks.attack_world import toy_world
from splitbench.checks.defense_world import defense_world
from splitbench.checks.discovery import concrete
from splitbench.checks.form import rebuilt
from splitbench.checks.inference_trial import as_easy_as_can_be, attempt
from splitbench.defense import Defense
from splitbench.inference import Inference
from splitbench.placement import computing_on
from splitbench.rng import isolated, stream
from splitbench.threat import ThreatModel

# Derivatives in forward mode crash torch (2.15) under a subclass of Tensor, as the pretend device
# is one: what these two compute elsewhere is untested.
FORWARD_MODE = ("FisherNoise", "FisherRegularization")


# A few steps show what stays behind as well as the many that the contract checks ask for.
MOST_EPOCHS, MOST_STEPS = 2, 10


def guessed(shared: Attack) -> Tensor:
    attack = copy.deepcopy(shared)  # members that were fitted on the other device stay there
    if getattr(attack, "steps", 0) > MOST_STEPS:
        attack = rebuilt(attack, steps=MOST_STEPS)
    world = toy_world(noisy=True)
    attack.fit(world.surface("fit", ThreatModel()), generator=stream(0, "fit"))
    surface = world.surface("recover", ThreatModel())
    return attack(world.release(), surface, generator=stream(0, "recover"))


def inferred(inference: Inference) -> Tensor:
    return attempt(inference, as_easy_as_can_be(inference, toy_world())).scores


def released(defense: Defense) -> Tensor:
    if defense.arguments().get("finetune_epochs", 0) > MOST_EPOCHS:
        defense = rebuilt(defense, finetune_epochs=MOST_EPOCHS)
    world = tiny_defenses.ELSEWHERE.get(type(defense), defense_world)()
    deployed = world.deploy(defense)
    release = deployed.transmit(world.targets, generator=stream(0, "release"), observations=2)
    simulated = deployed.release(world.targets, generator=stream(0, "release"), observations=2)
    features = deployed.features(world.targets)
    parts = [
        *release.tensors,
        *simulated.tensors,
        deployed.predict(release),
        deployed.mismatch(release, features, observations=2)[:, None],
    ]
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def judged(device: str) -> Tensor:
    """Leakage in every record of a small job, through store, judge and probes."""
    wanted = ["debug=smoke", "data=fashion_mnist_coarse", "cuts=[relu3]", f"device={device}"]
    attack = ["attack=likelihood_selection_lite", "attack.members.decoder.steps=5"]
    attack += ["attack.members.stack.members.decoder.steps=5", "inferences=probes_lite"]
    attack += ["inferences.mlp_probe.steps=20"]
    for probe in ("linear_probe", "pattern_probe"):
        attack += [f"inferences.{probe}.iterations=5", f"inferences.{probe}.penalties=[0.1]"]
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=[*wanted, *attack], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        evaluate(plain(config), choices, "job", store, Reporter("job", interactive=False))
        found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("cells/*.json"))]
    failed = [record["error"] for record in found if record["status"] == "failed"]
    if failed:
        raise RuntimeError(failed[0])
    if any(record["environment"]["device"].partition(":")[0] != device for record in found):
        raise RuntimeError("the record names another device")
    values = [v["mean"] for record in found for v in record["leakage"].values()]
    return torch.tensor(values, device=device)


class LeftBehind(MeanImage):
    """Keeps a tensor on the CPU."""

    def recover(self, release, surface, *, generator):
        return super().recover(release, surface, generator=generator) + torch.zeros(8, device="cpu")


class HalfMoved(Ridge):
    """Initialises a module and forgets to move it."""

    def recover(self, release, surface, *, generator):
        with isolated(generator):
            layer = torch.nn.Linear(8, 8)
        return layer(super().recover(release, surface, generator=generator))


def everything() -> dict[str, Callable[[], Tensor]]:
    """What to compute, by name."""
    found: dict[str, Callable[[], Tensor]] = {}
    for kind, base, tiny, compute in (
        (attacks, Attack, tiny_attacks.TINY, guessed),
        (attacks, Inference, tiny_inferences.TINY, inferred),
        (defenses, Defense, tiny_defenses.TINY, released),
    ):
        for cls in concrete(kind, base):
            if cls.__name__ in FORWARD_MODE:
                continue
            rows = tiny.get(cls, {})
            for i, row in enumerate(rows if isinstance(rows, list) else [rows]):
                found[f"{cls.__name__}-{i}"] = lambda f=compute, c=cls, r=row: f(c(**r))
    found["Job"] = lambda: judged(torch.get_default_device().type)
    for villain in (LeftBehind, HalfMoved):
        found[villain.__name__] = lambda v=villain: guessed(v())
    return found


def compare(compute: Callable[[], Tensor]) -> dict[str, object]:
    """The largest difference between both devices, or why there is none."""
    from twin import NAME, Machine  # from here on it is there

    here = compute()
    try:
        with Machine(), computing_on(NAME):
            there = compute()
            return {"device": there.device.type, "off": float((there.cpu() - here).abs().max())}
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told
        return {"device": NAME, "error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.accelerator.is_available = lambda: False  # nothing to wait for
    known = everything()
    for name in sys.argv[1:]:
        sys.stdout.write(json.dumps({"name": name, **compare(known[name])}) + "\n")
        sys.stdout.flush()
