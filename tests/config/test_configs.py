"""Every option of every group, and every experiment, composes and builds what it describes."""

import copy
import json
from collections import Counter
from functools import cache
from importlib.util import find_spec
from itertools import compress, product
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.compose import build, plain, source_digest, without
from experiments.errors import UserError
from experiments.evaluate import chosen_attacks
from experiments.explain import sentence
from experiments.objectives import Objectives, check_one_cut, searching
from experiments.protocols import CUSTOM, protocol
from experiments.run import job_id, main
from experiments.settings import KEYS, check_settings
from hydra_plugins.applicable_sweeper import expand
from splitbench.attack import Attack
from splitbench.codec import Codec
from splitbench.defense import Defense
from splitbench.inference import Inference
from splitbench.metric import Metric
from splitbench.rng import isolated, stream
from splitbench.threat import ThreatModel

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = {
    "attack": Attack,
    "codec": Codec,
    "defense": Defense,
    "metric": Metric,
    "threat": ThreatModel,
}


def options(group):
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


def in_run():
    """Groups that run.yaml chooses from."""
    defaults = yaml.safe_load((CONFIGS / "run.yaml").read_text())["defaults"]
    chosen = [next(iter(entry)) for entry in defaults if isinstance(entry, dict)]
    return [word for word in chosen if " " not in word]


@cache
def composed(*overrides):
    with initialize_config_module("configs", version_base="1.3"):
        return compose("run", overrides=list(overrides), return_hydra_config=True)


def resolved(*overrides):
    config = composed(*overrides)
    return plain(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


@cache
def check_kind(group, node):
    """Whether what a node describes, as JSON, can be built and is of its group's kind."""
    assert isinstance(build(json.loads(node)), KINDS[group])


def built_parts(config):
    """Build what a resolved configuration describes, apart from data and model weights."""
    many = {"attack": config["attacks"], "metric": config["metrics"]}
    described = [(group, config[group]) for group in ("defense", "codec", "threat")]
    described += [(group, node) for group, nodes in many.items() for node in nodes.values()]
    for group, node in described:
        check_kind(group, json.dumps(node))  # jobs share most of theirs
    assert hasattr(build(config["training"]), "fit")
    assert hasattr(build(config["tracking"]), "start")
    assert hasattr(build(config["data"]), "load")


CHOICES = [(group, option) for group in in_run() for option in options(group)]


@pytest.mark.parametrize(("group", "option"), CHOICES, ids=map("-".join, CHOICES))
def test_every_option_composes_and_builds_its_kind_of_object(group, option):
    config = resolved(f"{group}={option}")
    if group in KINDS:
        assert isinstance(build(config[group]), KINDS[group])


@pytest.mark.parametrize("option", options("metric"))
def test_every_metric_builds(option):
    config = resolved("~metrics", f"+metric@metrics.one={option}")
    assert isinstance(build(config["metrics"]["one"]), Metric)


@pytest.mark.parametrize("option", options("inference"))
def test_every_inference_builds(option):
    config = resolved(f"+inference@inferences.one={option}")
    assert isinstance(build(config["inferences"]["one"]), Inference)


@pytest.mark.parametrize("option", options("inferences"))
def test_a_choice_of_inferences_asks_for_attributes_and_for_persons(option):
    nodes = resolved(f"inferences={option}")["inferences"]
    made = {name: build(node) for name, node in nodes.items()}
    assert {inference.secret for inference in made.values()} == {"attribute", "identity"}
    for name, node in nodes.items():
        assert name == node["_target_"].split(".")[-2], "a label names its inference"


def test_inferences_are_no_part_of_a_run_unless_they_are_asked_for():
    assert not resolved().get("inferences")


@pytest.mark.parametrize("option", options("model"))
def test_every_model_builds_for_the_shape_and_the_classes_of_the_data(option):
    make = build(resolved(f"model={option}")["model"])
    with isolated(stream(0, "test")):
        model = make(image_shape=(3, 32, 32), classes=7).eval()
    assert model(torch.rand(1, 3, 32, 32, generator=stream(0, "x"))).shape == (1, 7)


@pytest.mark.parametrize("option", options("data"))
def test_every_source_of_data_builds_without_loading_anything(option, tmp_path):
    config = resolved(f"data={option}", f"paths.data={tmp_path}/data")
    source = build(config["data"])
    assert callable(source.load)
    assert not list(tmp_path.iterdir())


def test_the_default_configuration_builds():
    built_parts(resolved())


@pytest.mark.parametrize("option", options("suite"))
def test_every_suite_builds_and_names_its_protocol(option):
    config = resolved(f"suite={option}")
    built_parts(config)
    assert config["protocol"].startswith(option)
    for name, node in config["attacks"].items():
        assert name.startswith(node["_target_"].split(".")[-2]), "a label names its attack"


@pytest.mark.parametrize("option", options("suite"))
def test_what_an_attack_of_a_suite_builds_on_is_an_attack_of_the_suite_so_that_it_is_fitted_once(
    option,
):
    attacks = [build(node) for node in resolved(f"suite={option}")["attacks"].values()]
    alone = {repr(attack) for attack in attacks}
    assert {repr(part) for attack in attacks for part in attack.parts()} <= alone


def taking_part(suite, threat):
    """The attacks of a suite that one adversary runs, by name."""
    granted = build(resolved(f"threat={threat}")["threat"]).grants()
    chosen = chosen_attacks(resolved(f"suite={suite}"), {}, granted)
    return {name: build(node) for name, node in chosen.items()}, granted


@pytest.mark.parametrize("suite", options("suite"))
@pytest.mark.parametrize("threat", options("threat"))
def test_every_suite_has_an_attack_for_every_adversary(suite, threat):
    attacks, granted = taking_part(suite, threat)
    assert [a for a in attacks.values() if not a.floor and a.needs <= granted]


@pytest.mark.parametrize("suite", options("suite"))
def test_who_lacks_nothing_runs_no_attack_that_imitates_the_client(suite):
    assert "shadow_client" not in taking_part(suite, "white_box")[0]
    assert "shadow_client" in taking_part(suite, "query_free")[0]


@pytest.mark.parametrize("suite", options("suite"))
def test_who_has_other_images_still_has_the_searches_of_who_has_none(suite):
    attacks, granted = taking_part(suite, "no_data")
    searches = {name for name, a in attacks.items() if not a.floor and a.needs <= granted}
    assert searches
    assert searches <= set(taking_part(suite, "shifted")[0])


@pytest.mark.parametrize("without", [{"nobody": "query"}, {"ridge": "money"}])
def test_an_attack_for_who_lacks_something_is_of_the_suite_and_lacks_what_there_is(without):
    with pytest.raises(UserError, match="want an attack of the suite"):
        check_settings({**resolved(), "without": without})


OPTUNA = {
    "direction": "minimize", "storage": None, "study_name": None, "n_trials": 20, "n_jobs": 2,
    "max_failure_rate": 0.0, "search_space": None, "params": None, "custom_search_space": None,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def schema_of_the_search():
    """Where the extra is missing, what its sweeper can be told, so that its experiments compose."""
    if find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        store = ConfigStore.instance()
        sampler = {"_target_": "optuna.samplers.NSGAIISampler", "seed": None, "population_size": 50}
        node = {"_target_": "hydra_plugins.OptunaSweeper", **OPTUNA, "sampler": "???"}
        node["defaults"] = ["_self_", {"sampler": "nsgaii"}]
        store.store(group="hydra/sweeper", name="optuna", node=node)
        store.store(group="hydra/sweeper/sampler", name="nsgaii", node=sampler)


def sweep_of(experiment):
    """The command lines of an experiment's jobs; of a search the corners of its space."""
    sweeper = composed(f"experiment={experiment}").hydra.sweeper
    params = sweeper.get("params") or {}
    words = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in params.items()])
    if "direction" not in sweeper:
        return expand(words, configured=len(params), also=sweeper.get("also") or ())
    ends = [list(word.sweep_string_iterator()) for word in words]
    keys = [word.get_key_element() for word in words]
    corners = product(*((values[0], values[-1]) for values in ends))
    return [[f"{k}={v}" for k, v in zip(keys, values, strict=True)] for values in corners]


@cache
def pieces(*overrides):
    """Of a configuration what stands under each key, with nothing resolved."""
    found = OmegaConf.to_container(composed(*overrides), resolve=False)
    return {key: value for key, value in found.items() if key != "hydra"}


def resolved_quickly(*overrides):
    """As `resolved`, for jobs that choose from the same files: each is composed by itself."""
    words = OverridesParser.create().parse_overrides(list(overrides))
    files = [(CONFIGS / word.key_or_group).is_dir() for word in words]
    common = [o for o in overrides if o.startswith(("experiment=", "debug="))]
    base, changed = pieces(*common), {}
    for file in compress(overrides, files):
        own = {k: v for k, v in pieces(*common, file).items() if k not in base or v != base[k]}
        assert not own.keys() & changed.keys(), f"{file} changes what another word changes, too"
        changed |= own
    config = OmegaConf.create(copy.deepcopy(base | changed), flags={"struct": True})
    for word, is_file in zip(words, files, strict=True):
        if not is_file:
            OmegaConf.update(config, word.key_or_group, word.value(), merge=True)
    return plain(config)


@pytest.mark.parametrize("experiment", options("experiment"))
@pytest.mark.parametrize("debug", options("debug"))
def test_every_job_of_every_experiment_builds(experiment, debug):
    jobs = sweep_of(experiment)
    assert jobs
    for job in jobs:
        built_parts(resolved_quickly(f"experiment={experiment}", f"debug={debug}", *job))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_what_is_composed_once_is_what_hydra_composes_for_each_job(experiment):
    for job in (sweep_of(experiment)[0], sweep_of(experiment)[-1]):
        words = f"experiment={experiment}", *job
        assert resolved_quickly(*words) == resolved(*words)


@pytest.mark.parametrize("word", ["defense.noise_sdt=1.0", "nothing=1"])
def test_a_setting_that_does_not_exist_does_not_slip_through_when_files_are_composed_once(word):
    with pytest.raises(OmegaConfBaseException):
        resolved_quickly("defense=gaussian_noise", word)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_an_experiment_says_how_it_is_run(experiment):
    lines = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert f"splitbench run experiment={experiment}" in lines[1]


def test_a_search_tells_its_sweeper_where_to_go_with_each_objective_of_one_cut():
    config = composed("experiment=front")
    assert searching(config.hydra)
    directions = dict(zip(Objectives._fields, config.hydra.sweeper.direction, strict=True))
    assert directions == {
        "leakage": "minimize", "accuracy": "maximize", "payload_bytes": "minimize",
    }  # fmt: skip
    check_one_cut(resolved("experiment=front"))


def test_a_search_is_seeded_and_proposes_a_generation_at_a_time():
    sweeper = composed("experiment=front").hydra.sweeper
    assert sweeper.sampler.seed is not None
    assert sweeper.n_jobs == sweeper.sampler.population_size
    assert sweeper.n_trials % sweeper.n_jobs == 0
    assert sweeper.n_trials > sweeper.n_jobs


@pytest.mark.parametrize("experiment", options("experiment"))
def test_only_a_search_has_another_sweeper_than_the_usual_one(experiment):
    chosen = composed(f"experiment={experiment}").hydra.runtime.choices["hydra/sweeper"]
    assert chosen == ("optuna" if experiment == "front" else "applicable")
    assert composed().hydra.runtime.choices["hydra/sweeper"] == "applicable"


@pytest.mark.parametrize("experiment", options("experiment"))
def test_no_experiment_changes_a_suite(experiment):
    assert protocol(resolved(f"experiment={experiment}")) != CUSTOM


@pytest.mark.parametrize("words", [["hydra/launcher=ray"], ["hydra/launcher=submitit_slurm"]])
def test_a_plugin_that_is_not_installed_is_named_with_its_extra(words):
    if find_spec(f"hydra_plugins.hydra_{words[0].rpartition('=')[2].partition('_')[0]}_launcher"):
        pytest.skip("it is installed")
    with pytest.raises(MissingConfigException) as refusal:
        composed(*words)
    assert f"{words[0]} is not installed: pip install '.[" in sentence(refusal.value)


def test_a_demos_sweep_has_no_job_twice_and_names_a_job_by_its_numbers():
    identities = [job_id(resolved("experiment=demo", *job)) for job in sweep_of("demo")]
    assert len(identities) == len(set(identities)) > 1


@pytest.mark.parametrize("group", in_run())
def test_an_unknown_option_is_refused_with_the_options_listed(group):
    with pytest.raises((HydraException, OmegaConfBaseException)) as refusal:
        composed(f"{group}=nope")
    assert "nope" in sentence(refusal.value)
    for option in options(group):
        assert option in sentence(refusal.value)
    assert "\n" not in sentence(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["defense=gausian_noise"], "gaussian_noise"),
        (["defense=gaussian_noise", "defense.noise_sdt=1"], "noise_std"),
        (["sed=1"], "seed"),
    ],
)
def test_a_near_miss_is_answered_with_what_was_meant(arguments, meant):
    with pytest.raises((HydraException, OmegaConfBaseException)) as refusal:
        composed(*arguments)
    assert f"did you mean '{meant}'?" in sentence(refusal.value)


def test_every_setting_of_a_run_is_one_that_something_reads():
    assert set(resolved()) <= KEYS
    check_settings(resolved())


@pytest.mark.parametrize(
    "change",
    [
        {"foo": 1}, {"seed": "abc"}, {"seed": -1}, {"seed": None}, {"threads": 0},
        {"targets": 0.5}, {"gallery": True}, {"latency": {"runs": 0, "warmup": 0, "threads": 1}},
        {"metric_examples": {"lpips": "few"}}, {"data": {"sizes": {"train": "many"}}},
    ],
)  # fmt: skip
def test_a_setting_that_is_no_number_is_named(change):
    (key,) = change
    with pytest.raises(UserError, match=key):
        check_settings({**resolved(), **change})


def test_a_word_where_a_class_wants_a_number_is_named():
    node = {**resolved("defense=gaussian_noise")["defense"], "noise_std": "loud"}
    with pytest.raises(UserError, match="noise_std='loud'"):
        build(node)


TYPOS = {
    "seeed": ["seeed=1"],
    "trian": ["data.trian=5"],
    "noise_sdt": ["defense=gaussian_noise", "defense.noise_sdt=1"],
    "stepz": ["attacks.inverse_network.stepz=3"],
    "defence": ["defence=none"],
    "clinet": ["threat.clinet=query"],
}


@pytest.mark.parametrize("typo", TYPOS)
def test_a_typo_in_a_key_is_refused_and_named(typo):
    with pytest.raises((HydraException, OmegaConfBaseException)) as refusal:
        composed(*TYPOS[typo])
    assert typo in sentence(refusal.value)


MISTAKES = {
    "unknown option": ["attack=nope"],
    "typo": ["data.trian=5"],
    "typo in a sweep": ["-m", "defense=none,gaussian_noise", "defense.noise_sdt=0.5,1"],
    "broken syntax": ["seed=[1"],
    "no value": ["cuts"],
    "what nothing reads": ["+foo=1"],
    "a word for a number": ["seed=abc"],
    "a word for a size": ["data.sizes.train=many"],
    "an empty sweep of threads": ["threads=0"],
    "a word for several settings": ["latency=off"],
    "an unknown reference": ["seed=${nope}"],
    "a formula beyond its proof": ["defense=local_dp_gaussian", "defense.calibration=classic"],
    "a bottleneck that widens": ["defense=distillation_bottleneck", "defense.channels=5000"],
    "training behind what rounds": ["defense=chain", "+defense@defense.members.late=no_peek"],
    "two schedules at once": [
        "defense=chain_no_peek_entropy",
        "defense.members.entropy.batch_size=64",
    ],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_the_command_before_any_work(mistake, tmp_path, capsys, monkeypatch):
    from experiments import evaluate

    def work(*arguments, **more):
        raise AssertionError("worked")

    monkeypatch.setattr(evaluate._Evaluation, "run", work)
    monkeypatch.setattr("sys.argv", ["splitbench"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which main sets: put back afterwards
    code = main([*MISTAKES[mistake], f"paths.runs={tmp_path}/runs"])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not list(tmp_path.rglob("*.json"))


def test_every_defense_is_tuned_with_the_same_budget():
    """Four settings; without a knob one, before each adversary that knows another part of it."""
    keyed = {
        name for name in options("defense") if build(resolved(f"defense={name}")["defense"]).keyed
    }
    knobless = {("none", ""), *product(keyed, ("white_box", "secret_key"))}
    tuned = {(name, "") for name in {*options("defense")} - keyed - {"none"}}
    budgets = Counter()
    for job in sweep_of("defenses"):
        told = dict(word.split("=", 1) for word in job)
        budgets[told["defense"], told.get("threat", "")] += 1
    assert keyed
    assert budgets == {**dict.fromkeys(knobless, 1), **dict.fromkeys(tuned, 4)}


@pytest.mark.parametrize(
    ("defense", "lacking"),
    [
        ("dropout", "naive"),
        ("gaussian_noise", "naive"),
        ("no_peek", "naive"),
        ("secret_rotation", "secret_key"),
        ("secret_permutation", "secret_key"),
    ],
)
def test_a_fact_about_who_lacks_something_is_looked_for_with_who_does_not_at_each_setting(
    defense, lacking
):
    settings = {lacking: set(), "white_box": set()}
    for job in sweep_of("facts"):
        if f"defense={defense}" in job:
            (threat,) = [w[7:] for w in job if w.startswith("threat=")] or ["white_box"]
            settings[threat].add(frozenset(w for w in job if not w.startswith("threat=")))
    assert settings[lacking] == settings["white_box"] != set()


def test_a_class_that_does_not_exist_is_one_sentence():
    with pytest.raises(UserError, match=r"^defenses\.nope\.Nope: "):
        build({"_target_": "defenses.nope.Nope"})


def test_a_keyword_that_a_class_does_not_take_is_named():
    with pytest.raises(UserError, match="unexpected keyword argument 'noise_std'"):
        build({"_target_": "defenses.no_defense.NoDefense", "noise_std": 1.0})


def test_a_value_that_a_class_refuses_is_passed_on_with_its_reason():
    with pytest.raises(UserError, match=r"threat\.observations=0: must be at least 1"):
        build({"_target_": "splitbench.threat.ThreatModel", "observations": 0})


def test_a_configuration_that_does_not_resolve_is_a_user_error():
    with pytest.raises(UserError, match="does not resolve"):
        plain(OmegaConf.create({"a": "${nowhere}"}))
    with pytest.raises(UserError, match="does not resolve"):
        plain(OmegaConf.create({"a": "???"}))


def test_machine_paths_threads_and_tracking_do_not_name_a_job():
    same = [
        [],
        ["paths.runs=elsewhere"],
        ["paths.data=elsewhere"],
        ["threads=1"],
        ["tracking=wandb"],
    ]
    assert len({job_id(resolved(*words)) for words in same}) == 1
    other = [["seed=1"], ["cuts=[relu1]"], ["threat=black_box"], ["codec=float16"], ["targets=3"]]
    assert len({job_id(resolved(*words)) for words in [*other, []]}) == len(other) + 1


def test_the_source_digest_is_stable_within_a_process():
    assert source_digest() == source_digest()
    assert len(source_digest()) == 16


def test_without_removes_keys_and_copies():
    given = {"a": 1, "b": 2}
    assert without(given, "b", "c") == {"a": 1}
    assert given == {"a": 1, "b": 2}
