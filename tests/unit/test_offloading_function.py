"""A segment as a serverless function, and the platform that is emulated around it."""

import base64
import json
import os
import threading
from importlib.resources import files

import pytest
import torch
from omegaconf import OmegaConf
from runtime_world import deployment, exported, images, lenet

from offloading.pricing import Function
from offloading.runtime import function, instance_process, local_function, wire
from offloading.runtime.artefact import folder_of
from offloading.runtime.client import Client
from offloading.runtime.errors import ArtefactError, RequestFailed
from offloading.runtime.function_transport import FunctionTransport
from offloading.runtime.local_function import LocalFunction
from offloading.runtime.segments import load_head
from offloading.runtime.transport import checked

PRICE = {"usd_per_gb_second": 1.6e-5, "usd_per_request": 2e-7}
WHOLE = Function(**PRICE, memory_mb=1769)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("plans"), deployment(lenet(), "relu1"))


@pytest.fixture(scope="module")
def head(plan):
    return load_head(folder_of(plan, 0))


@pytest.fixture
def instance(plan):
    return function.Instance({function.FOLDER: str(folder_of(plan, 1))})


def message_of(head, image):
    with torch.no_grad():
        payload = head.codec.encode([t[0] for t in head.client(image)])
    plan = head.manifest.deployed.id
    return wire.message("request", segment=1, plan=plan, request=b"1" * 16, payload=payload)


def test_the_handler_answers_an_event_with_the_models_logits(plan, head, monkeypatch):
    monkeypatch.setenv(function.FOLDER, str(folder_of(plan, 1)))
    function.loaded.cache_clear()
    message = message_of(head, images(1))
    replies = [function.handler(function.event_of(message), None) for _ in range(2)]
    function.loaded.cache_clear()
    documents = [json.loads(reply["body"]) for reply in replies]
    assert [reply["statusCode"] for reply in replies] == [200, 200]
    assert [document["cold"] for document in documents] == [True, False]
    wanted = lenet()(images(1))
    assert torch.equal(torch.tensor([documents[0]["logits"]]), wanted)
    raw = base64.b64decode(documents[0]["reply"])
    assert torch.equal(checked(raw, message, classes=10).logits, wanted)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"body": None},
        {"body": "AAAA"},
        {"body": "AAAA", "isBase64Encoded": "true"},
        {"body": "not base64!", "isBase64Encoded": True},
        {"body": "AAAA", "isBase64Encoded": True},
        [],
        None,
    ],
)
def test_an_event_that_is_no_message_is_a_bad_request(instance, event):
    reply = instance.answer(event)
    assert reply["statusCode"] == 400
    assert json.loads(reply["body"])["error"]


def test_an_event_that_is_too_large_is_refused(instance):
    event = {"body": "A" * (function.MOST_BODY_BYTES + 1), "isBase64Encoded": True}
    assert instance.answer(event)["statusCode"] == 413


def test_an_event_of_another_plan_is_refused(instance, head):
    payload = wire.payload_of(
        wire.header(message_of(head, images(1))), message_of(head, images(1))[wire.HEADER_BYTES :]
    )
    other = wire.message("request", segment=1, plan="0" * 16, request=b"1" * 16, payload=payload)
    assert instance.answer(function.event_of(other))["statusCode"] == 412


def test_the_planner_sends_what_the_handler_takes_and_no_longer_message(instance):
    text = (files("configs") / "tier" / "cloud_function.yaml").read_text("utf-8")
    most = int(OmegaConf.create(text).most_message_bytes)
    status = [
        instance.answer(function.event_of(bytes(most + wire.HEADER_BYTES + more)))["statusCode"]
        for more in (0, 100)
    ]
    assert status[0] != 413
    assert status[1] == 413


def test_a_function_needs_an_artefact_of_a_last_segment(plan, tmp_path):
    with pytest.raises(ArtefactError, match="must name"):
        function.Instance({})
    with pytest.raises(ArtefactError, match=r"cannot read .*manifest\.json"):
        function.Instance({function.FOLDER: str(tmp_path)})
    chain = exported(tmp_path, deployment(lenet(), "relu1"), later_cuts=["relu3"])
    with pytest.raises(ArtefactError, match="not the last"):
        function.Instance({function.FOLDER: str(folder_of(chain, 1))})


class Fake:
    """An instance without a process, which answers when it is let."""

    made = 0

    def __init__(self, environment):
        type(self).made += 1
        self.start_ms, self.import_ms, self.load_ms = 40.0, 30.0, 5.0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.ended = False

    def answer(self, event, timeout_s):
        if not self.may_answer.wait(timeout_s):
            raise RequestFailed("DEADLINE_EXCEEDED", "late")
        if event == "die":
            raise RequestFailed("UNAVAILABLE", "gone")
        return {"statusCode": 200, "body": json.dumps({"event": event})}, 10.2

    def end(self):
        self.ended = True


@pytest.fixture
def fakes(monkeypatch):
    class Made(Fake):
        made = 0

    monkeypatch.setattr(local_function, "InstanceProcess", Made)
    return Made


def test_the_first_event_is_cold_the_next_is_warm_and_the_meter_counts_both(fakes, tmp_path):
    with LocalFunction(tmp_path, pricing=WHOLE) as platform:
        first, second = platform.invoke("a"), platform.invoke("b")
    assert (first.cold, second.cold, fakes.made) == (True, False, 1)
    assert (first.billed_ms, second.billed_ms) == (51, 11), "whole milliseconds, rounded up"
    assert platform.billed_ms == 62
    assert (platform.invocations, platform.cold_starts) == (2, 1)
    per_ms = 1769 / 1024 * 1.6e-5 / 1000
    assert platform.usd == pytest.approx(2 * 2e-7 + 62 * per_ms)


def test_half_the_memory_takes_twice_the_time(fakes, tmp_path):
    half = Function(**PRICE, memory_mb=1000, processor_mb=2000)
    with LocalFunction(tmp_path, pricing=half) as platform:
        cold = platform.invoke("a")
    assert (cold.start_ms, cold.handler_ms, cold.billed_ms) == (80, 20.4, 101)


def test_an_instance_that_idles_too_long_is_ended(fakes, tmp_path):
    with LocalFunction(tmp_path, pricing=WHOLE, keep_alive_s=0.0) as platform:
        assert [platform.invoke("a").cold for _ in range(3)] == [True] * 3
    assert fakes.made == 3


def test_an_instance_that_dies_is_replaced(fakes, tmp_path):
    with LocalFunction(tmp_path, pricing=WHOLE) as platform:
        platform.invoke("a")
        with pytest.raises(RequestFailed, match="gone"):
            platform.invoke("die")
        assert platform.invoke("b").cold
    assert platform.invocations == 2


def test_events_wait_in_turn_for_a_free_instance_and_too_many_are_refused(fakes, tmp_path):
    platform = LocalFunction(tmp_path, pricing=WHOLE, most_instances=1, most_waiting=1)
    platform.invoke("warm")
    ((_, instance),) = platform._idle
    instance.may_answer.clear()
    answers = []
    threads = [
        threading.Thread(target=lambda i=i: answers.append(platform.invoke(i))) for i in range(2)
    ]
    threads[0].start()
    while platform._idle:  # the first has the instance
        pass
    threads[1].start()
    while not platform._line:  # the second waits
        pass
    with pytest.raises(RequestFailed) as caught:
        platform.invoke("third")
    assert caught.value.status == "RESOURCE_EXHAUSTED"
    instance.may_answer.set()
    for thread in threads:
        thread.join(20)
    assert [answer.document["event"] for answer in answers] == [0, 1]
    assert answers[1].queue_ms > answers[0].queue_ms
    assert fakes.made == 1


def test_a_closed_function_keeps_no_instance_and_takes_no_event(fakes, tmp_path):
    platform = LocalFunction(tmp_path, pricing=WHOLE)
    platform.invoke("warm")
    ((_, instance),) = platform._idle
    instance.may_answer.clear()
    thread = threading.Thread(target=lambda: platform.invoke("a"))
    thread.start()
    while platform._idle:
        pass
    platform.close()
    instance.may_answer.set()
    thread.join(20)
    assert instance.ended
    assert (platform._alive, platform._idle) == (0, [])
    with pytest.raises(RequestFailed, match="closed"):
        platform.invoke("b")


def test_who_waits_too_long_is_told(fakes, tmp_path):
    platform = LocalFunction(tmp_path, pricing=WHOLE)
    platform.invoke("warm")
    ((_, instance),) = platform._idle
    instance.may_answer.clear()
    thread = threading.Thread(target=lambda: platform.invoke("a"))
    thread.start()
    while platform._idle:
        pass
    with pytest.raises(RequestFailed, match="no instance was free"):
        platform.invoke("b", timeout_s=0.05)
    instance.may_answer.set()
    thread.join(20)
    assert not platform._line


def test_a_client_asks_real_instances_and_learns_what_it_cost(plan, head):
    half = Function(**PRICE, memory_mb=1769 // 2)
    with LocalFunction(folder_of(plan, 1), pricing=half) as platform:
        client = Client(head, FunctionTransport(platform), timeout_s=120.0)
        model = lenet()
        for cold in (True, False):
            answer = client.request(images(1))
            assert torch.equal(answer.logits, model(images(1)))
            assert answer.pid != os.getpid()
            assert client.transport.last.cold == cold
            assert sum(answer.phases_ms.values()) == pytest.approx(answer.end_to_end_ms, abs=1e-6)
            assert all(ms >= 0 for ms in answer.phases_ms.values())
    assert platform.cold_starts == 1
    assert client.transport.last.start_ms == 0


def test_an_instance_that_cannot_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(instance_process, "MODULE", "offloading.runtime.nowhere")
    with (
        LocalFunction(tmp_path, pricing=WHOLE) as platform,
        pytest.raises(ArtefactError, match="No module named offloading"),
    ):
        platform.invoke({})
    assert platform._alive == 0
