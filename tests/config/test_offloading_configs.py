"""Every scenario, tier, workload and price list composes and builds what it describes."""

from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException

from experiments.errors import UserError
from experiments.plan_page.sources import heading
from experiments.planning import composed, limits, price_list, run_overrides
from experiments.scenario import only, scenario_of
from offloading.tier import Tier
from offloading.workload import Workload

CONFIGS = Path(__file__).parents[2] / "configs"
SETTINGS = {"_target_", *Tier.__dataclass_fields__}


def options(group):
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


def built(*overrides):
    config, _ = composed("plan", overrides)
    return scenario_of(config["scenario"], config["workload"])


@pytest.mark.parametrize("name", options("scenario"))
def test_every_scenario_builds_with_a_device_an_edge_a_cloud_and_a_function(name):
    scenario = built(f"scenario={name}")
    assert scenario.name == name
    assert [tier.kind for tier in scenario.tiers] == ["device", "edge", "cloud", "function"]
    assert len(scenario.routes()) == 6
    direct = scenario.hop(scenario.tiers[0], scenario.tiers[2]).link
    near = scenario.hop(scenario.tiers[0], scenario.tiers[1]).link
    assert direct.rtt_ms > near.rtt_ms  # the cloud is behind the edge
    assert direct.up_mbps == near.up_mbps


@pytest.mark.parametrize("name", options("workload"))
def test_every_workload_builds(name):
    assert isinstance(built(f"workload={name}").workload, Workload)


MINE = """\
name: mine
date: 2026-10-31
source: an invoice
defaults: [aws_us_east_1_2026, _self_]
machine: { usd_per_hour: 8.16 }
"""


@pytest.fixture
def own(tmp_path):
    """A user's folder, with a name that a shell and Hydra have to quote."""
    folder = tmp_path / "the user's"
    for group, text in {
        "price": MINE,
        "workload": (CONFIGS / "workload" / "camera.yaml").read_text(),
        "model": (CONFIGS / "model" / "le_net5.yaml").read_text(),
    }.items():
        (folder / group).mkdir(parents=True)
        (folder / group / "mine.yaml").write_text(text)
    return folder


def test_a_price_list_of_ones_own_prices_the_tiers(own):
    config, choices = composed("plan", [f"--config-dir={own}", "price=mine"])
    cloud = {t.name: t for t in scenario_of(config["scenario"], config["workload"]).tiers}["cloud"]
    assert cloud.pricing.usd_per_hour == 8.16
    assert choices["price"] == "mine"
    assert str(price_list(config["price"])) == "mine, read 2026-10-31 (an invoice)"


@pytest.mark.parametrize("name", ["plan", "profile", "run"])
def test_every_command_finds_ones_own_files_however_the_folder_is_named(own, name):
    for words in ([f"--config-dir={own}"], ["--config-dir", str(own)]):
        assert composed(name, [*words, "model=mine"])[1]["model"] == "mine"
    with pytest.raises(HydraException):
        composed(name, ["model=mine"])


def test_ones_own_files_take_the_place_of_none_of_ours(own):
    (own / "model" / "le_net5.yaml").write_text("_target_: somebody.elses.Net")
    found = composed("plan", [f"--config-dir={own}"])[0]["model"]
    assert found["_target_"] == "splitbench.models.LeNet5"


@pytest.mark.parametrize("word", ["--config-dir=nowhere", "--config-dir", "--config-dir="])
def test_a_folder_that_is_not_there_is_one_sentence(word):
    with pytest.raises(UserError, match="--config-dir: there is no folder"):
        composed("plan", [word])


@pytest.mark.parametrize("name", options("price"))
def test_every_price_list_says_when_and_where_it_was_read(name):
    assert price_list(composed("plan", [f"price={name}"])[0]["price"]).date


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"date": None}, "says no date: add"),
        ({"date": None, "source": None}, "says no date and no source"),
        ({"date": "last summer"}, "date='last summer': say when"),
        ({"date": "2026-13"}, "such as 2026-06"),
        ({"source": " "}, "where they were read"),
    ],
)
def test_a_price_list_without_them_is_refused(told, said):
    with pytest.raises(UserError, match=f"price list mine: .*{said}"):
        price_list({"name": "mine", "date": "2026-06", "source": "an invoice"} | told)


@pytest.mark.parametrize("name", options("price"))
def test_every_price_list_prices_every_tier(name):
    tiers = built(f"price={name}").tiers
    assert {tier.name for tier in tiers if hasattr(tier.pricing, "usd_per_request")} == {"function"}


@pytest.mark.parametrize("path", sorted((CONFIGS / "tier").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_tier_has_known_settings_and_says_what_it_rests_on(path):
    node = yaml.safe_load(path.read_text())
    assert {*node} <= SETTINGS
    assert node["basis"] in ("assumed", "measured")
    assert node["source"]
    assert path.read_text().startswith("#")


@pytest.mark.parametrize("path", sorted((CONFIGS / "price").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_price_has_its_source_beside_it(path):
    lines = [line for line in path.read_text().splitlines() if "usd_per" in line]
    assert lines
    assert all("#" in line for line in lines)


LINKS = sorted((CONFIGS / "link").glob("*.yaml"))
# Who measured, and when; the other numbers of a link are assumptions, and its file says which.
MEASURED = {
    "lte": "Huang et al",
    "nr5g": "Ookla, third quarter of 2021",
    "nr5g_field_2022": "CELLSMART, March to May 2022",
    "wifi": "Speedtest, 2020",
    "mobile_2020": "Speedtest, September 2020",
    "fixed_2023": "Speedtest, 2023",
}
WITH_ROUND_TRIP = {"wifi", "mobile_2020"}


@pytest.mark.parametrize("path", LINKS, ids=lambda path: path.stem)
def test_every_link_says_who_measured_it_or_that_it_is_assumed(path):
    said = " ".join(heading(path.read_text()).split())
    if path.stem in MEASURED:
        assert MEASURED[path.stem] in said
        assert ("round trip time is an assumption" in said) == (path.stem not in WITH_ROUND_TRIP)
    else:
        assert said.endswith("all three numbers are assumptions.")


@pytest.mark.parametrize("path", LINKS, ids=lambda path: path.stem)
def test_every_link_can_join_any_two_tiers_of_a_scenario(path):
    wanted = yaml.safe_load(path.read_text())
    del wanted["_target_"]
    scenario = built(f"link@scenario.hops.phone.edge.link={path.stem}")
    link = scenario.hop(*scenario.tiers[:2]).link
    assert {name: getattr(link, name) for name in wanted} == wanted
    assert link.name == path.stem
    assert scenario.hop(scenario.tiers[0], scenario.tiers[2]).link.name == "nr5g"


def test_a_setting_reaches_its_tier_and_its_hop():
    scenario = built("scenario.tiers.phone.slowdown=9", "scenario.hops.phone.edge.link.up_mbps=3")
    assert scenario.tiers[0].slowdown == 9
    assert scenario.hop(*scenario.tiers[:2]).link.up_mbps == 3


def test_tiers_can_be_left_out():
    scenario = only(built(), ["phone", "cloud"])
    assert [tier.name for tier in scenario.tiers] == ["phone", "cloud"]
    with pytest.raises(UserError, match="'phone', the device"):
        only(built(), ["cloud"])
    with pytest.raises(UserError, match="want 'phone'"):
        only(built(), ["phone", "moon"])


def test_a_profile_that_is_not_there_is_one_sentence():
    with pytest.raises(UserError, match=r"cannot read the profile nowhere\.json"):
        built("scenario.tiers.phone.profile=nowhere.json")


def test_limits_are_numbers():
    assert limits({"leakage": 0.3, "deadline_ms": None}).leakage == 0.3
    with pytest.raises(UserError, match="limits"):
        limits({"leakage": -1.0})


def test_what_a_run_understands_is_kept_for_it():
    words = ("model=resnet18", "training.epochs=4", "scenario=phone_lte", "limits.leakage=0.3")
    assert run_overrides(words) == ("model=resnet18", "training.epochs=4")
