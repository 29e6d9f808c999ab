"""Peers that are silent, slow, rude or greedy keep nobody else waiting, and are told why."""

import threading
import time
from contextlib import ExitStack, contextmanager

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from memory import forget_peak, resident_mib
from mutations import HEADER, resealed
from raw_http2 import (
    DATA,
    HEADERS,
    HELLOS,
    RESET,
    WINDOW,
    Peer,
    ask_and_do_not_listen,
    call,
    data,
    field,
    frame,
)
from runtime_world import deployment, exported, images, lenet, serving

from offloading.runtime import server as served
from offloading.runtime import wire
from offloading.runtime.artefact import folder_of
from offloading.runtime.client import Client
from offloading.runtime.errors import Refused, RequestFailed
from offloading.runtime.segments import load_head
from offloading.runtime.server import Access
from offloading.runtime.trace import now_ns
from offloading.runtime.transport import METHOD, Credentials, GrpcTransport

GROWTH_MIB = 48


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("plans"), deployment(lenet(), "relu1"))


@pytest.fixture(scope="module")
def head(plan):
    return load_head(folder_of(plan, 0))


@pytest.fixture(scope="module")
def whole(head):
    with torch.no_grad():
        payload = head.codec.encode([t[0] for t in head.client(images(1))])
    plan = head.manifest.deployed.id
    return wire.message("request", segment=1, plan=plan, request=b"r" * 16, payload=payload)


@contextmanager
def guarded(plan, name, **options):
    with serving(plan, address=f"unix:{plan}/{name}", **options) as server:
        yield server


def answered(server, head, *, timeout_s=20.0, credentials=None):
    """Another client's request, right to the bit."""
    image = images(1)
    with Client(head, GrpcTransport(server.address, credentials), timeout_s=timeout_s) as client:
        logits = client.request(image).logits
    with torch.no_grad():
        return torch.equal(logits, server.worker.stage.module(head.client(image)))


def answered_unless_busy(server, head):
    """One that may be refused while others ask as fast as they can."""
    try:
        return answered(server, head)
    except RequestFailed as error:
        if error.status != "RESOURCE_EXHAUSTED":
            raise
        return False


def refusal(server, pieces, *, timeout=20.0):
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(METHOD)(iter(pieces), timeout=timeout)
    return caught.value.code().name, caught.value.details()


def free(server):
    return server._slots._value


def readers_are_free(server):
    """All threads that read come to one place, so none of them waits for a chunk any more."""
    meeting = threading.Barrier(served.LET_IN)
    arrivals = [server._readers.submit(meeting.wait, 20) for _ in range(served.LET_IN)]
    return sorted(arrival.result(30) for arrival in arrivals) == [*range(served.LET_IN)]


def wait_until(holds, *, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def slow_writers(stack, server, whole, count):
    """So many connections that send half a chunk and then nothing."""
    peers = [stack.enter_context(Peer(server.address)) for _ in range(count)]
    for peer in peers:
        peer.send(call(1), data(1, whole[:100], claimed=len(whole)))
    return peers


def test_who_connects_and_says_nothing_or_nonsense_is_let_go(plan, head, monkeypatch):
    monkeypatch.setattr(served, "HANDSHAKE_MS", 300)
    with guarded(plan, "hello") as server, ExitStack() as stack:
        peers = {
            name: [stack.enter_context(Peer(server.address, hello)) for _ in range(4)]
            for name, hello in HELLOS.items()
        }
        assert answered(server, head), "while all of them are connected"
        for name in set(HELLOS) - {"data of no stream"}:  # that one has greeted, and may stay
            for peer in peers[name]:
                peer.heard()  # until the server hangs up
        assert answered(server, head)


def test_slow_writers_keep_nobody_waiting_and_are_told_so(plan, head, whole, monkeypatch):
    monkeypatch.setattr(served, "ARRIVAL_SECONDS", 3.0)
    with guarded(plan, "slow") as server, ExitStack() as stack:
        peers = slow_writers(stack, server, whole, served.LET_IN - 1)
        wait_until(lambda: free(server) == 1)
        assert answered(server, head), "one place is left, and it is enough"
        said = [peer.heard(until=b"message was not there after") for peer in peers]
        assert all(b"message was not there after" in words for words in said)
        wait_until(lambda: free(server) == served.LET_IN)
        assert readers_are_free(server)
        assert answered(server, head)


def test_when_all_places_are_taken_the_next_is_told_at_once(plan, head, whole):
    with guarded(plan, "full") as server, ExitStack() as stack:
        peers = slow_writers(stack, server, whole, served.LET_IN)
        wait_until(lambda: free(server) == 0)
        code, reason = refusal(server, [whole])
        assert (code, "too busy" in reason) == ("RESOURCE_EXHAUSTED", True)
        with grpc.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, "busy is not ill"
        peers[0].socket.close()
        wait_until(lambda: free(server) == 1)
        assert answered(server, head)


def test_who_leaves_in_the_middle_of_a_message_leaves_nothing_behind(plan, head, whole):
    with guarded(plan, "leave") as server:
        for turn in range(3 * served.LET_IN):
            with Peer(server.address) as peer:
                peer.send(call(1), data(1, whole[:100]), data(1, whole[100:900], claimed=2000))
                if turn % 3 == 0:
                    peer.send(frame(RESET, bytes(4), stream=1))
        wait_until(lambda: free(server) == served.LET_IN)
        assert readers_are_free(server)
        assert answered(server, head)


def test_a_half_closed_stream_without_a_message_is_refused(plan, head):
    with guarded(plan, "half") as server:
        assert refusal(server, [])[0] == "INVALID_ARGUMENT"
        with Peer(server.address) as peer:
            peer.send(call(1), frame(DATA, flags=1, stream=1))
            assert b"a message has at least" in peer.heard(until=b"a message has at least")
        assert answered(server, head)


def test_claims_of_4_gib_are_refused_before_anything_is_kept(plan, head, whole):
    fields = list(HEADER.unpack(whole[: HEADER.size]))
    fields[-2] = 2**32 - 1
    with guarded(plan, "claims") as server:
        before = resident_mib()
        forget_peak()
        code, reason = refusal(server, [resealed(fields, whole[wire.HEADER_BYTES :])])
        assert (code, "4294967295 bytes" in reason) == ("RESOURCE_EXHAUSTED", True)
        with Peer(server.address) as peer:
            peer.send(call(1), data(1, b"SBRT", claimed=2**32 - 1))
            assert b"larger than max" in peer.heard(until=b"larger than max")
        with Peer(server.address) as peer:
            fat = call(1) + frame(
                HEADERS, b"".join([field("x", "y" * 100)] * 160), flags=4, stream=3
            )
            peer.send(fat)
        assert answered(server, head)
        assert resident_mib(field="VmHWM") - before < GROWTH_MIB


def test_a_wrong_token_is_refused_before_a_message_is_waited_for(plan, head, whole):
    with (
        guarded(plan, "token", access=Access(token="right")) as server,
        Peer(server.address) as peer,
    ):
        peer.send(call(1, token="Bearer wrong"), data(1, whole[:100], claimed=len(whole)))
        assert b"the token is missing or wrong" in peer.heard(until=b"missing or wrong")
        assert free(server) == served.LET_IN
        assert answered(server, head, credentials=Credentials(token="right"))


def test_who_asks_and_does_not_listen_costs_little_memory(plan, head):
    with guarded(plan, "deaf") as server, ExitStack() as stack:
        assert answered(server, head)
        before = resident_mib()
        for _ in range(4):
            peer = stack.enter_context(Peer(server.address))
            ask_and_do_not_listen(peer, b"SBRT", WINDOW // 64)
        wait_until(lambda: answered_unless_busy(server, head))  # while they do not listen
        assert resident_mib() - before < GROWTH_MIB


def test_nobody_is_told_of_changes(plan):
    with guarded(plan, "watch") as server, grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(health_pb2.HealthCheckRequest(service="x" * 1000), timeout=20))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_nothing_is_computed_for_who_has_given_up(plan, whole, monkeypatch):
    with guarded(plan, "turn") as server:
        module, go, begun = server.worker.stage.module, threading.Event(), []
        forward = module.forward

        def held(tensors):
            begun.append(1)
            assert go.wait(20)
            return forward(tensors)

        monkeypatch.setattr(module, "forward", held)
        first = threading.Thread(target=lambda: server.worker.answer(whole, received_ns=now_ns()))
        first.start()
        wait_until(lambda: begun)
        with pytest.raises(Refused, match="gave up") as caught:
            server.worker.answer(whole, received_ns=now_ns(), remaining_s=0.1)
        go.set()
        first.join(20)
    assert caught.value.status == "DEADLINE_EXCEEDED"
    assert begun == [1]


def test_a_client_of_a_busy_server_fails_as_overloaded(plan, head, whole):
    with guarded(plan, "busy") as server, ExitStack() as stack:
        slow_writers(stack, server, whole, served.LET_IN)
        wait_until(lambda: free(server) == 0)
        with pytest.raises(RequestFailed) as caught:
            answered(server, head)
    assert caught.value.status == "RESOURCE_EXHAUSTED"
