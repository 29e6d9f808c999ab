"""What a server refuses, what its failure looks like, and that nothing else answers for it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import torch
from certificates import certificate
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_world import deployment, exported, images, lenet, serving

from offloading.runtime import wire
from offloading.runtime.artefact import folder_of, read_manifest
from offloading.runtime.client import Client
from offloading.runtime.errors import Refused, RequestFailed
from offloading.runtime.segments import load_head
from offloading.runtime.server import Access, is_local
from offloading.runtime.transport import METHOD, Credentials, GrpcTransport
from offloading.runtime.turns import Turns


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("plans"), deployment(lenet(), "relu1"))


@pytest.fixture(scope="module")
def other_plan(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("plans"), deployment(lenet(seed=1), "relu1"))


@pytest.fixture(scope="module")
def server(plan):
    with serving(plan) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture
def head(plan):
    return load_head(folder_of(plan, 0))


def asked(server, head, **options):
    credentials = options.pop("credentials", None)
    return Client(head, GrpcTransport(server.address, credentials), **options)


def payload_of(head):
    with torch.no_grad():
        return head.codec.encode([t[0] for t in head.client(images(1))])


def request_of(head, payload, **changes):
    words = {"segment": 1, "plan": head.manifest.deployed.id, "request": b"0" * 16, **changes}
    return wire.message("request", payload=payload, **words)


def sent(channel, pieces, *, timeout=20.0):
    return channel.stream_unary(METHOD)(iter(pieces), timeout=timeout)


def refusal(channel, pieces, **options):
    with pytest.raises(grpc.RpcError) as caught:
        sent(channel, pieces, **options)
    return caught.value.code().name, caught.value.details()


def still_answers(channel, head):
    whole = request_of(head, payload_of(head))
    return wire.header(sent(channel, wire.chunks(whole))).kind == "reply"


def test_a_request_in_any_chunks_is_answered(channel, head):
    whole = request_of(head, payload_of(head))
    for size in (wire.HEADER_BYTES, 1000, wire.CHUNK_BYTES):
        assert wire.header(sent(channel, wire.chunks(whole, size))).kind == "reply"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_garbage_is_refused_and_the_server_lives_on(channel, pieces):
    code, _ = refusal(channel, pieces)
    assert code == "INVALID_ARGUMENT"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 200), value=st.integers(1, 255))
def test_one_damaged_byte_is_refused(channel, head, place, value):
    whole = bytearray(request_of(head, payload_of(head)))
    whole[place] ^= value
    assert refusal(channel, [bytes(whole)])[0] == "INVALID_ARGUMENT"
    assert still_answers(channel, head)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(payload=st.binary(max_size=300))
def test_a_sound_header_before_garbage_is_refused(channel, head, payload):
    code, _ = refusal(channel, [request_of(head, payload)])
    assert code == "INVALID_ARGUMENT"


def test_a_message_of_other_tensors_is_refused(channel, head):
    strange = head.codec.encode([torch.zeros(6, 28, 27)])
    code, reason = refusal(channel, [request_of(head, strange)])
    assert code == "INVALID_ARGUMENT"
    assert "(6, 28, 27)" in reason
    several = head.codec.encode([torch.zeros(2), torch.zeros(3)])
    assert refusal(channel, [request_of(head, several)])[0] == "INVALID_ARGUMENT"
    none = head.codec.encode([])
    assert refusal(channel, [request_of(head, none)])[0] == "INVALID_ARGUMENT"


def test_more_than_the_plan_allows_is_refused_before_it_is_read(channel, head):
    bound = head.manifest.deployed.bounds[0]
    code, reason = refusal(channel, wire.chunks(request_of(head, bytes(bound + 1))))
    assert (code, str(bound) in reason) == ("RESOURCE_EXHAUSTED", True)


def test_more_than_the_header_claims_is_refused(channel, head):
    whole = request_of(head, payload_of(head))
    assert refusal(channel, [whole, b"x"])[0] == "RESOURCE_EXHAUSTED"
    assert refusal(channel, [whole[:-1]])[0] == "INVALID_ARGUMENT"


def test_chunks_of_no_size_or_too_large_are_refused(channel, head):
    whole = request_of(head, payload_of(head))
    assert refusal(channel, [whole[:100], b"", whole[100:]])[0] == "INVALID_ARGUMENT"
    assert refusal(channel, [bytes(wire.CHUNK_BYTES + 1)])[0] == "RESOURCE_EXHAUSTED"


def test_a_request_of_another_plan_or_segment_is_refused(channel, head, other_plan):
    payload = payload_of(head)
    other = read_manifest(folder_of(other_plan, 0)).deployed.id
    assert other != head.manifest.deployed.id, "the plans differ in their weights alone"
    for changes in ({"plan": other}, {"segment": 2}):
        code, reason = refusal(channel, [request_of(head, payload, **changes)])
        assert code == "FAILED_PRECONDITION"
        assert head.manifest.deployed.id in reason


def test_a_reply_is_no_request(channel, head):
    plan = head.manifest.deployed.id
    reply = wire.message("reply", segment=1, plan=plan, request=b"0" * 16, payload=b"")
    assert refusal(channel, [reply])[0] == "INVALID_ARGUMENT"


def test_a_request_without_a_deadline_is_refused(channel, head):
    whole = request_of(head, payload_of(head))
    for timeout in (None, 400.0):
        assert refusal(channel, [whole], timeout=timeout)[0] == "INVALID_ARGUMENT"


def test_who_sends_half_a_request_is_let_go_at_his_deadline(channel, head):
    whole = request_of(head, payload_of(head))
    never = threading.Event()

    def half():
        yield whole[:100]
        never.wait(5)

    code, _ = refusal(channel, half(), timeout=0.3)
    never.set()
    assert code == "DEADLINE_EXCEEDED"
    assert still_answers(channel, head)


def test_the_standard_health_check_answers(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "splitbench.Segment"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_only_who_shows_the_token_is_answered(plan, head):
    with serving(plan, access=Access(token="right"), address=f"unix:{plan}/token") as guarded:
        for wrong in (None, Credentials(token="wrong"), Credentials(token="righ")):
            with pytest.raises(RequestFailed) as caught:
                asked(guarded, head, credentials=wrong).request(images(1))
            assert caught.value.status == "UNAUTHENTICATED"
        right = asked(guarded, head, credentials=Credentials(token="right"))
        assert right.request(images(1)).answered_by == "server"


def test_with_a_certificate_nothing_is_said_in_clear(plan, head, tmp_path):
    made, key = certificate(tmp_path, "segment")
    access = Access(certificate=made, key=key)
    with serving(plan, access=access, address=f"unix:{tmp_path}/tls") as guarded:
        shown = Credentials(root=made, name="segment")
        assert asked(guarded, head, credentials=shown).request(images(1)).answered_by == "server"
        with pytest.raises(RequestFailed):
            asked(guarded, head, timeout_s=10.0).request(images(1))


def test_a_token_is_one_line_and_a_certificate_needs_its_key(tmp_path):
    for token in ("", " ", "two\nlines", "naïve"):
        with pytest.raises(ValueError, match="token"):
            Access(token=token)
        with pytest.raises(ValueError, match="token"):
            Credentials(token=token)
    with pytest.raises(ValueError, match="its key"):
        Access(certificate=tmp_path)


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1:1", True), ("unix:/x", True), ("0.0.0.0:1", False), ("10.0.0.2:1", False)],
)
def test_it_is_known_who_reaches_an_address(address, local):
    assert is_local(address) == local


def test_two_servers_cannot_share_an_address(plan, tmp_path):
    with serving(plan, address=f"unix:{tmp_path}/one"), pytest.raises(OSError, match="one"):
        serving(plan, address=f"unix:{tmp_path}/one/two").__enter__()


def test_without_a_server_the_request_fails(plan, head, tmp_path):
    client = Client(head, GrpcTransport(f"unix:{tmp_path}/nobody"), timeout_s=10.0)
    with pytest.raises(RequestFailed) as caught:
        client.request(images(1))
    assert caught.value.status == "UNAVAILABLE"


def test_a_chain_that_is_broken_behind_the_first_server_fails_too(tmp_path):
    folder = exported(tmp_path, deployment(lenet(), "relu1"), later_cuts=["relu3"])
    nobody = GrpcTransport(f"unix:{tmp_path}/nobody")

    def forward(message, left):
        return nobody.ask(message, classes=10, timeout_s=left)

    with serving(folder, forward=forward) as middle:
        client = asked(middle, load_head(folder_of(folder, 0)), timeout_s=10.0)
        with pytest.raises(RequestFailed) as caught:
            client.request(images(1))
    assert caught.value.status == "UNAVAILABLE"


def test_a_segment_in_the_middle_needs_to_know_the_next_one_and_the_last_has_none(plan, tmp_path):
    folder = exported(tmp_path, deployment(lenet(), "relu1"), later_cuts=["relu3"])
    with pytest.raises(ValueError, match="address of the next"):
        serving(folder).__enter__()
    with pytest.raises(ValueError, match="address of the next"):
        serving(plan, forward=lambda message, left: None).__enter__()


def test_an_answer_that_cannot_be_sent_is_an_error(plan, server, head, monkeypatch):
    broken = torch.full((1, 10), torch.nan)
    monkeypatch.setattr(server.worker.stage.module, "forward", lambda tensors: broken)
    with pytest.raises(RequestFailed, match="NaN") as caught:
        asked(server, head).request(images(1))
    assert caught.value.status == "INTERNAL"


def test_a_segment_that_fails_to_compute_is_an_error(plan, server, head, monkeypatch):
    def forward(tensors):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(server.worker.stage.module, "forward", forward)
    with pytest.raises(RequestFailed, match="out of memory") as caught:
        asked(server, head).request(images(1))
    assert caught.value.status == "INTERNAL"


@pytest.mark.parametrize("held", [0, 1, 5])
def test_a_reply_says_how_many_requests_wait_for_their_turn(plan, head, monkeypatch, held):
    go, answers = threading.Event(), torch.zeros(1, 10)

    def forward(tensors):
        assert go.wait(30)
        return answers

    with serving(plan, address=f"unix:{plan}/held{held}") as server:
        monkeypatch.setattr(server.worker.stage.module, "forward", forward)
        with ThreadPoolExecutor(held + 1) as pool:
            asking = [pool.submit(asked(server, head).request, images(1)) for _ in range(held + 1)]
            until(lambda: server.worker.turns.waiting == held)
            go.set()
            told = [answer.result().servers[0] for answer in asking]
        after = asked(server, head).request(images(1)).servers[0]
    first, *others = sorted(told, key=lambda server: server.started_ns)
    assert first.waiting == held
    assert [server.waiting for server in others] == [*reversed(range(held))]
    assert after.waiting == 0


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_only_who_finds_no_free_turn_waits_and_who_gives_up_does_no_longer():
    turns = Turns(2)
    with turns.taken(0.0), turns.taken(0.0):
        assert turns.waiting == 0
        with pytest.raises(Refused, match="gave up"), turns.taken(0.05):
            pass
        assert turns.waiting == 0
    with turns.taken(0.0):
        assert turns.waiting == 0
    with pytest.raises(ValueError, match="parallel=0"):
        Turns(0)


def test_a_client_looks_at_the_shape_of_the_image_first(server, head):
    with pytest.raises(ValueError, match=r"\(1, 28, 28\)"):
        asked(server, head).request(images(1, (3, 28, 28)))


@pytest.mark.parametrize("defense", [None, "exit"])
def test_a_device_answers_by_itself_only_where_the_plan_says_so_and_then_says_so(tmp_path, defense):
    from test_offloading_split import train

    from defenses.early_exit import EarlyExit

    exits = EarlyExit(share=0.01, head_epochs=1, batch_size=12) if defense else None
    model = lenet()
    made = deployment(model, "relu1", defense=exits, fit=train() if exits else None)
    folder = exported(tmp_path, made, on_failure="local_exit")
    image = images(1)
    with serving(folder) as server:
        client = asked(server, load_head(folder_of(folder, 0)))
        assert client.request(image).answered_by == "server"
        assert client.request(image).failure is None
    answer = client.request(image)  # nobody is there any more
    assert answer.answered_by == ("local_exit" if defense else "local_whole")
    assert "UNAVAILABLE" in answer.failure
    assert answer.servers == ()
    assert sum(answer.phases_ms.values()) == pytest.approx(answer.end_to_end_ms, abs=1e-6)
    assert answer.phases_ms["failed"] > 0
    told = made.answered(made.features(image))
    assert torch.equal(answer.logits, told.logits if defense else model(image))


def test_a_mistake_is_not_hidden_by_an_answer_of_the_device(tmp_path, other_plan):
    folder = exported(tmp_path, deployment(lenet(), "relu1"), on_failure="local_exit")
    with serving(other_plan, address=f"unix:{tmp_path}/other") as other:
        client = asked(other, load_head(folder_of(folder, 0)))
        with pytest.raises(RequestFailed) as caught:
            client.request(images(1))
    assert caught.value.status == "FAILED_PRECONDITION"


def test_a_device_without_leave_to_answer_does_not_hold_the_rest_of_the_model(plan, tmp_path):
    assert load_head(folder_of(plan, 0)).local is None
    whole = exported(tmp_path, deployment(lenet(), "relu1"), on_failure="local_exit")
    sizes = [
        (folder_of(folder, 0) / "weights.safetensors").stat().st_size for folder in (plan, whole)
    ]
    assert sizes[0] < 2000 < sizes[1]
