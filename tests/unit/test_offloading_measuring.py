"""Plans run for real: what is added up of it, and what happens when a process dies."""

import dataclasses
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from offloading_world import ACCURACY, cloud, edge, link, option, phone, profile, scenario
from runtime_world import deployment, exported, images, lenet, serving
from safetensors.torch import save_file

from defenses.laplace_noise import LaplaceNoise
from experiments.compose import build
from experiments.errors import UserError
from experiments.expressions import node_of
from experiments.measure import elsewhere, equality, is_bulky, main, remarks, report_table
from experiments.plan_file import chosen
from experiments.profile import machine
from offloading.constraints import Constraints
from offloading.emulation.emulation import EmulationError
from offloading.figure import Figure
from offloading.measuring import session
from offloading.measuring.answers import Answers, compared
from offloading.measuring.device import Sender, Task, link_bytes, perform
from offloading.measuring.pinned import pinned
from offloading.measuring.prediction import PredictionError, at_host_speed
from offloading.measuring.processes import MeasureError
from offloading.measuring.session import measure
from offloading.measuring.subject import Setting, Subject
from offloading.measuring.summary import Over, summary
from offloading.plan import Phase, Placement, Plan, Segment
from offloading.planner import Planner
from offloading.runtime.artefact import folder_of
from offloading.runtime.errors import RequestFailed
from splitbench.codecs.float32 import Float32
from splitbench.codecs.uniform import Uniform
from splitbench.link import Link

HOPS = {
    ("device", "edge"): Link(name="near", up_mbps=400.0, down_mbps=400.0, rtt_ms=2.0),
    ("edge", "cloud"): Link(name="far", up_mbps=400.0, down_mbps=400.0, rtt_ms=6.0),
}
QUICK = Setting(backend="analytic", requests=4, warmup=1)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    root, model = tmp_path_factory.mktemp("artefacts"), lenet()
    expected = answers(model)
    chain = exported(root, deployment(model, "conv1"), later_cuts=["relu2"])
    near = exported(root, deployment(model, "relu1"))
    return [
        Subject(name="chain", folder=chain, tiers=("device", "edge", "cloud"), expected=expected),
        Subject(name="near", folder=near, tiers=("device", "edge")),
        Subject(
            name="local", folder=exported(root, deployment(model, "output")), tiers=("device",)
        ),
    ]


def answers(model):
    """Of the whole model, one image at a time."""
    with torch.no_grad():
        return torch.cat([model(image) for image in images().split(1)])


@pytest.fixture(scope="module")
def report(subjects):
    setting = Setting(backend="proxy", requests=5, warmup=2, check=False)
    return measure([subjects[0], subjects[2]], images(), links=HOPS, setting=setting)


class TestMeasuring:
    def test_each_segment_runs_in_a_process_of_its_own(self, report):
        chain, local = report.plans
        processes = {pid for pid, _ in chain.processes}
        assert len(processes) == 2
        assert not processes & {chain.device_process, os.getpid()}
        assert chain.answered_by == {"server": 5}
        assert (local.answered_by, local.processes) == ({"device": 5}, ())

    def test_every_request_is_the_sum_of_its_phases(self, report):
        for plan in (*report.plans, report.again):
            assert plan.worst_sum_ms < 1e-6
            assert plan.end_to_end_ms.n == 5
            low, high = plan.p50_interval_ms
            assert low <= plan.end_to_end_ms.p50 <= high
        chain, local = report.plans
        assert {"head", "encode", "up", "decode", "middle", "tail", "down"} <= {*chain.phases_ms}
        assert [*local.phases_ms] == ["head"]

    def test_the_way_takes_at_least_the_round_trips_of_both_links(self, report):
        chain = report.plans[0]
        assert chain.phases_ms["up"].p50 >= 1 + 3
        assert chain.phases_ms["down"].p50 >= 1 + 3
        assert report.backend == "proxy"
        assert {*report.calibrations} == {"device>edge", "edge>cloud"}

    def test_counts_the_bytes_that_were_really_sent(self, report):
        made = deployment(lenet(), "conv1")
        exact = Float32().payload_bound(made.specs)
        chain, local = report.plans
        assert chain.payload_bytes == exact
        assert exact < chain.sent_bytes < exact + 200
        assert local.sent_bytes == 0

    def test_the_answers_of_the_parts_are_those_of_the_whole_model(self, report):
        chain, local = report.plans
        assert chain.answers == report.again.answers == Answers(equal=5, not_compared=None)
        assert local.answers.equal is None
        assert "answers equal the whole model's, bit for bit: 5 of 5" in equality(report)
        assert {*equality(report)} <= {*remarks(report)}
        assert json.loads(report.to_json())["plans"][0]["answers"]["equal"] == 5

    def test_a_server_with_other_weights_fails_the_measurement(self, tmp_path):
        expected, altered = answers(lenet()), lenet()
        with torch.no_grad():
            [*altered.parameters()][-1][3] += 1e-3  # of the last layer, which a server has
        subject = Subject(
            name="altered",
            folder=exported(tmp_path, deployment(altered, "relu1")),
            tiers=("device", "edge"),
            expected=expected,
        )
        with pytest.raises(MeasureError, match="altered: 4 of 4 answers are not"):
            measure([subject], images(), links=HOPS, setting=QUICK)

    def test_takes_the_first_plan_twice(self, report):
        assert report.again.name == "chain (again)"
        again = report.again.end_to_end_ms.p50 - report.plans[0].end_to_end_ms.p50
        assert report.same_ms == again

    def test_is_written_with_everything_that_was_found(self, report):
        raw = json.loads(report.to_json())
        assert raw["plans"][0]["composed_error"] == report.plans[0].composed_error
        assert raw["mape"] is None
        assert raw["calibrations"]["device>edge"]["asked"]["rtt_ms"] == 2.0
        assert raw["host"]["cores"] == str(len(os.sched_getaffinity(0)))
        assert report_table(report, set()).row_count == 3

    def test_a_killed_server_fails_the_measurement(self, subjects):
        servers = {}

        def kill(done, total):
            if done == 5:
                servers["near"][0].kill()

        with pytest.raises(MeasureError, match="RequestFailed"):
            measure(
                [subjects[1]],
                images(),
                links=HOPS,
                setting=QUICK,
                on_request=kill,
                on_servers=servers.update,
            )

    def test_refuses_what_does_not_fit_together(self, subjects):
        with pytest.raises(ValueError, match="names of their own"):
            measure([subjects[0]] * 2, images(), links=HOPS)
        with pytest.raises(ValueError, match=r"no link for \[\('edge', 'cloud'\)\]"):
            measure(subjects[:1], images(), links={("device", "edge"): HOPS["device", "edge"]})
        short = Subject(name="x", folder=subjects[0].folder, tiers=("device", "edge"))
        with pytest.raises(ValueError, match="3 segments, but tiers"):
            measure([short], images(), links=HOPS)
        with pytest.raises(ValueError, match="3 answers to 2 images"):
            measure(subjects[:1], images(2), links=HOPS)
        with pytest.raises(ValueError, match="requests >= 1"):
            Setting(requests=0)

    def test_refuses_a_link_that_is_imitated_badly(self, subjects, monkeypatch):
        def poor(net, hop):
            class Poor:
                def check(self):
                    raise EmulationError("misses by +50%")

            return Poor()

        monkeypatch.setattr(session, "calibrate", poor)
        with pytest.raises(EmulationError, match="misses by"):
            measure(subjects[:1], images(), links=HOPS, setting=QUICK)


class TestAnswers:
    def told(self, values, **changed):
        return {"image": 0, "logits": values, "failure": None} | changed

    def subject(self, expected=None, **more):
        return Subject(name="x", folder=None, tiers=("device", "edge"), expected=expected, **more)

    def test_that_were_lost_something_on_the_way_are_not_compared_and_why_is_said(self):
        subject = self.subject(not_compared="its codec is lossy")
        found = compared([self.told([1.0, 2.0])], subject)
        assert found == Answers(equal=None, not_compared="its codec is lossy")

    def test_that_a_device_gave_for_want_of_another_are_not_counted(self):
        subject = self.subject(torch.tensor([[0.1, 2.0]]))
        right = torch.tensor([0.1, 2.0]).tolist()
        told = [self.told(right), self.told([0.0, 0.0], failure="UNAVAILABLE")]
        assert compared(told, subject).equal == 1

    @pytest.mark.parametrize("value", [2.0000002, float("nan")])
    def test_that_differ_in_one_bit_are_other_answers(self, value):
        subject = self.subject(torch.tensor([[0.1, 2.0]]))
        with pytest.raises(MeasureError, match="1 of 1 answers"):
            compared([self.told([0.1, value])], subject)


def plans():
    """Of the world's phone (4 times slower), edge (2 times) and cloud."""
    tiers = (phone(), edge(), cloud())
    world = scenario(*tiers, links={("edge", "cloud"): link(rtt=20.0)}, reply=10)
    options = [option("first", 0.9), option("second", 0.5)]
    planner = Planner(world, profile(), options, accuracy=ACCURACY)
    found = planner.outcome(Constraints(), minimise="latency_ms")
    every = [judged.plan for judged in found.front]
    return world, every


class TestPrediction:
    @pytest.fixture
    def chain(self):
        ms = [
            ("queue", "phone", 1.0),
            ("compute", "phone", 8.0),
            ("encode", "phone", 0.4),
            ("network", "phone>edge", 13.0),
            ("decode", "edge", 0.2),
            ("compute", "edge", 6.0),
            ("network", "edge>cloud", 14.0),
            ("start", "cloud", 3.0),
            ("compute", "cloud", 5.0),
            ("network", "cloud>edge", 10.0),
            ("network", "edge>phone", 5.0),
        ]
        segments = (
            Segment(tier="phone", start="input", end="first"),
            Segment(tier="edge", start="first", end="second"),
            Segment(tier="cloud", start="second", end="output"),
        )
        return Plan(
            placement=Placement(segments=segments, option=option("first", 0.9)),
            scenario="imagined",
            model="a chain",
            figures={},
            phases=tuple(Phase(kind=k, where=w, ms=Figure(v, "assumed")) for k, w, v in ms),
        )

    def test_is_for_this_machines_speed_and_for_one_request_at_a_time(self, chain):
        world = scenario(phone(), edge(), cloud())
        found = at_host_speed(chain, world)
        wanted = {
            "head": 2.0,
            "encode": 0.1,
            "up": 27.0,
            "decode": 0.1,
            "middle": 3.0,
            "tail": 5.0,
            "down": 15.0,
        }
        assert found.phases_ms == pytest.approx(wanted)
        assert found.total_ms == pytest.approx(sum(wanted.values()))

    def test_of_a_stretched_head_is_that_much_longer(self, chain):
        world = scenario(phone(), edge(), cloud())
        found = at_host_speed(chain, world, stretch=3.0)
        assert found.phases_ms["head"] == pytest.approx(6.0)
        assert found.phases_ms["tail"] == pytest.approx(5.0)

    def test_is_refused_where_a_tier_was_measured_elsewhere(self, chain):
        world = scenario(phone(profile=profile()), edge(), cloud())
        with pytest.raises(PredictionError, match="phone has a profile of its own"):
            at_host_speed(chain, world)

    def test_of_the_planner_is_the_profile_and_the_links(self):
        world, every = plans()
        for plan in every:
            found = at_host_speed(plan, world)
            assert found.phases_ms["head"] <= 10.0
            computed = sum(found.phases_ms.get(name, 0.0) for name in ("head", "middle", "tail"))
            assert computed == pytest.approx(10.0)  # the whole chain, wherever it runs


class TestRemarks:
    def here(self, **changed):
        return dataclasses.replace(profile(), machine=machine(), **changed)

    def test_a_profile_of_this_machine_is_worth_no_remark(self):
        assert elsewhere(self.here()) is None

    def test_a_profile_of_another_machine_or_of_more_threads_is(self):
        other = dataclasses.replace(self.here(), machine={**machine(), "processor": "imagined"})
        assert "processor imagined there, " in elsewhere(other)
        assert "threads 4 there, 1 here" in elsewhere(self.here(threads=4))
        assert "torch unknown there" in elsewhere(profile())

    def test_a_large_message_over_a_slow_link_is_expected_to_be_predicted_well(self):
        world, every = plans()
        plan = next(p for p in every if len(p.placement.tiers) == 2)
        large = dataclasses.replace(plan.placement.option, payload_bytes=200_000)
        bulky = dataclasses.replace(
            plan, placement=dataclasses.replace(plan.placement, option=large)
        )
        assert is_bulky(bulky, world)
        assert not is_bulky(plan, world)
        way = link(up=1000.0)
        fast = scenario(phone(), edge(), cloud(), links=dict.fromkeys(world.hops, way))
        assert not is_bulky(bulky, fast)


def added(*_):
    """Of links that really hold back."""
    return 0.0, 0.0


class TestSummary:
    def told(self, ms, **changed):
        phases = {"head": ms, "up": 2.0, "down": 1.0, "tail": 0.0}
        request = {
            "phases_ms": phases,
            "end_to_end_ms": ms + 3.0,
            "payload_bytes": 1000,
            "sent_bytes": 1044,
            "answered_by": "server",
            "processes": [[7, "here"]],
            "failure": None,
            "link_up_bytes": 1500,
            "link_down_bytes": 200,
        }
        return request | changed

    def over(self, net, measured):
        calibration = SimpleNamespace(measured=measured)
        return Over(net, {("device", "edge"): calibration}, reply_bytes=64.0)

    def summarised(self, told, net, measured=HOPS["device", "edge"]):
        return summary(
            told,
            name="plan",
            tiers=("device", "edge"),
            device_process=1,
            stretch=1.0,
            predicted=None,
            over=self.over(net, measured),
            between_bytes=(),
            answers=Answers(equal=None, not_compared="imagined"),
        )

    def test_adds_the_formula_of_a_link_where_nothing_is_held_back(self):
        from offloading.emulation.analytic import Analytic

        net = Analytic(hops=HOPS)
        found = self.summarised([self.told(5.0), self.told(7.0)], net)
        way = HOPS["device", "edge"]
        assert found.end_to_end_ms.p50 == pytest.approx(9.0 + way.transfer_ms(1044, 64))
        assert found.phases_ms["up"].p50 == pytest.approx(2.0 + way.up_ms(1044))
        assert found.link_up_bytes is None
        assert found.worst_sum_ms < 1e-9

    def test_composes_what_was_measured_of_parts_with_the_calibrated_link(self):
        net = SimpleNamespace(added_ms=added, counts=True)
        measured = Link(name="m", up_mbps=1.0, down_mbps=1.0, rtt_ms=50.0)
        found = self.summarised([self.told(5.0), self.told(7.0)], net, measured)
        assert found.composed_ms == pytest.approx(6.0 + measured.transfer_ms(1044, 64))
        assert found.composed_error == pytest.approx(found.composed_ms / 9.0 - 1)
        assert (found.link_up_bytes, found.link_down_bytes) == (1500, 200)
        assert found.error is None
        assert "tail" not in found.phases_ms  # took no time


class TestDevice:
    def performed(self, tmp_path, on_failure, stop_after):
        """What the device tells of a plan whose server ends after so many requests."""
        folder = exported(tmp_path, deployment(lenet(), "relu1"), on_failure=on_failure)
        save_file({"images": images()}, tmp_path / "images")
        with serving(folder) as server:
            task = Task(
                senders=(
                    Sender(name="a", folder=str(folder_of(folder, 0)), address=server.address),
                ),
                images=str(tmp_path / "images"),
                requests=5,
                warmup=1,
                seed=0,
                threads=1,
                timeout_s=10.0,
                counted="",
            )
            for done, told in enumerate(perform(task), start=1):
                if done == stop_after:
                    server.stop(0)
                yield told

    def test_stops_at_a_request_that_nobody_answers(self, tmp_path):
        found = self.performed(tmp_path, "fail", 3)
        assert [next(found)["round"] for _ in range(3)] == [-1, 0, 1]
        with pytest.raises(RequestFailed):
            next(found)

    def test_that_answers_by_itself_says_how_often_it_had_to(self, tmp_path):
        told = list(self.performed(tmp_path, "local_exit", 3))
        timed = [each for each in told if each["round"] >= 0]
        found = TestSummary().summarised(timed, SimpleNamespace(added_ms=added, counts=False))
        assert found.answered_by == {"server": 2, "local_whole": 3}
        assert sum(found.failures.values()) == 3
        assert all("UNAVAILABLE" in why for why in found.failures)

    def test_counts_bytes_of_the_imitated_devices_only(self, tmp_path):
        table = tmp_path / "dev"
        table.write_text(
            "Inter-|   Receive | Transmit\n face |bytes packets|bytes packets\n"
            "    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n"
            "   sb0: 10 1 0 0 0 0 0 0 300 2 0 0 0 0 0 0\n"
            "   sb1: 5 1 0 0 0 0 0 0 40 2 0 0 0 0 0 0\n"
        )
        assert link_bytes("sb", table) == (340, 15)
        assert link_bytes("", table) == (0, 0)

    def test_is_told_its_task_as_text(self):
        task = Task(
            senders=(Sender(name="a", folder="f", address=None),),
            images="i",
            requests=1,
            warmup=0,
            seed=0,
            threads=1,
            timeout_s=1.0,
            counted="",
            trust=("m",),
        )
        assert Task.from_json(task.to_json()) == task

    def test_runs_on_the_cores_that_it_is_given(self):
        core = max(os.sched_getaffinity(0))
        program = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
        done = subprocess.run(pinned([core], program), capture_output=True, text=True)
        assert done.stdout.split() == [str(core)]

    def test_does_not_run_for_somebody_who_has_ended(self):
        words = pinned([], [sys.executable, "-c", "print('ran')"])
        words[4] = "-1"
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stdout == ""


class TestExpressions:
    def test_become_the_configuration_that_they_are_from(self):
        assert node_of("Float32()")["_target_"] == "splitbench.codecs.float32.Float32"
        for made in (Uniform(bits=4, entropy=True), LaplaceNoise(noise_std=2.0)):
            assert repr(build(node_of(repr(made)))) == repr(made)

    @pytest.mark.parametrize(
        "expression", ["__import__('os')", "os.system('x')", "3", "Float32(", "Nothing()", "a=1"]
    )
    def test_are_never_evaluated(self, expression):
        with pytest.raises(UserError):
            node_of(expression)


class TestCommand:
    def test_says_how_it_is_used(self, capsys):
        assert main(["--help"]) == 0
        assert "PLAN.json" in capsys.readouterr().out

    @pytest.mark.parametrize("content", ["{", "[]", '{"schema": 9}'])
    def test_refuses_what_is_no_plan_in_one_sentence(self, tmp_path, capsys, content):
        file = tmp_path / "plan.json"
        file.write_text(content)
        assert main([str(file)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert str(file) in said
        assert said.count("\n") == 1

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--config-dir=nowhere", "plan.json"], "there is no folder 'nowhere'"),
            (["--config-dir", "."], "name a file that `splitbench plan` wrote"),
        ],
    )
    def test_wants_a_folder_that_is_there_and_a_plan_beside_it(self, words, said, capsys):
        assert main(words) == 2
        assert said in capsys.readouterr().err

    def test_takes_the_plans_that_are_named_or_those_that_matter(self):
        _, every = plans()
        raw = [plan.to_dict() for plan in every]
        file = {"plans": raw, "baselines": {"first": raw[-1]}, "recommended": 0}
        both = [str(every[0].placement), str(every[-1].placement)]
        assert [*chosen(file, None, 4)] == [*dict.fromkeys(both)]
        assert [*chosen(file, None, 1)] == both[:1]
        assert [*chosen(file, [1], 4)] == [str(every[1].placement)]
        with pytest.raises(UserError, match="the file has plans 0 to"):
            chosen(file, [99], 4)
