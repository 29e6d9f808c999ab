"""Under load no reply is lost, and none is another's; a server that dies takes no answer back."""

import os
import random
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from load import Known, check, hammer
from memory import resident_mib
from mutations import Mutations
from raw_http2 import HELLOS, Peer, ask_and_do_not_listen
from runtime_world import LINGERING, Lingering, deployment, exported, images, lenet, serving

from offloading.runtime import server as served_by
from offloading.runtime import wire
from offloading.runtime.artefact import folder_of
from offloading.runtime.client import Client
from offloading.runtime.errors import RequestFailed
from offloading.runtime.process import ServerProcess
from offloading.runtime.segments import load_head, load_stage
from offloading.runtime.transport import METHOD
from splitbench.codecs.float32 import Float32
from splitbench.codecs.uniform import Uniform

GROWTH_MIB = 64  # of a server's memory, after it has warmed up
REFUSALS = {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Two plans of different weights, with what is known of each."""
    root = tmp_path_factory.mktemp("plans")
    folders = [
        exported(root, deployment(lenet(), "relu1")),
        exported(root, deployment(lenet(seed=1), "relu2", codec=Uniform(bits=4))),
    ]
    return [(f, Known(load_head(folder_of(f, 0)), load_stage(folder_of(f, 1)))) for f in folders]


def test_eight_clients_get_their_own_answers(plans):
    with ExitStack() as stack:
        served = [(stack.enter_context(serving(f)).address, known) for f, known in plans]
        check(hammer(served, clients=8, seconds=2.0))


def test_clients_that_are_refused_ask_again_and_get_their_own_answers(plans, monkeypatch):
    monkeypatch.setattr(served_by, "LET_IN", 1)
    with ExitStack() as stack:
        served = [(stack.enter_context(serving(f)).address, known) for f, known in plans]
        counts = hammer(served, clients=8, seconds=1.0)
    check(counts)
    assert counts["busy"] > 0


def started(stack, folder, where, **options):
    environment = {"OMP_NUM_THREADS": "1", **options.pop("environment", {})}
    return stack.enter_context(
        ServerProcess(folder_of(folder, 1), f"unix:{where}", environment=environment, **options)
    )


@pytest.mark.slow
def test_64_clients_get_their_own_answers_for_a_minute(plans, tmp_path, record_testsuite_property):
    with ExitStack() as stack:
        servers = [started(stack, f, tmp_path / f"s{k}") for k, (f, _) in enumerate(plans)]
        served = [(s.address, known) for s, (_, known) in zip(servers, plans, strict=True)]
        check(hammer(served, clients=64, seconds=5.0))  # threads and connections are made
        before = [resident_mib(server.pid) for server in servers]
        counts = hammer(served, clients=64, seconds=60.0)
        after = [resident_mib(server.pid) for server in servers]
    record_testsuite_property("measured", f"{dict(counts)}, {before} to {after} MiB")
    check(counts)
    assert max(b - a for a, b in zip(before, after, strict=True)) < GROWTH_MIB


def pieces_of(decided, whole):
    """A message in one chunk, or in some; empty ones among them."""
    if decided.random() < 0.5:
        return [whole]
    places = sorted(decided.randrange(len(whole) + 1) for _ in range(3))
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]


def good_message(known):
    payload = known.head.codec.encode([t[0] for t in known.head.client(known.images[:1])])
    plan = known.head.manifest.deployed.id
    return wire.message("request", segment=1, plan=plan, request=b"r" * 16, payload=payload)


@pytest.mark.slow
def test_a_server_survives_thousands_of_hostile_messages(
    plans, tmp_path, record_testsuite_property
):
    folder, known = plans[0]
    decided, statuses = random.Random(6), Counter()
    messages = Mutations(random.Random(7), [good_message(known)], Float32()._seal())
    with ExitStack() as stack:
        server = started(stack, folder, tmp_path / "s")
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        run = channel.stream_unary(METHOD)

        def send(count):
            for _, whole in messages.take(count):
                try:
                    run(iter(pieces_of(decided, whole)), timeout=60)
                    statuses["reply"] += 1
                except grpc.RpcError as error:
                    statuses[error.code().name] += 1

        send(500)
        before = resident_mib(server.pid)
        send(5_000)
        for hello in HELLOS.values():
            for _ in range(20):
                with Peer(server.address, hello):
                    pass
        deaf = [stack.enter_context(Peer(server.address)) for _ in range(4)]
        unheard = [ask_and_do_not_listen(peer, b"SBRT", 1000) for peer in deaf]
        after = resident_mib(server.pid)
        with known.client(server.address, "after") as client:
            answers = [client.request(image).logits for image in known.images]
    record_testsuite_property(
        "measured", f"{dict(statuses)}, {unheard}, {before:.1f} to {after:.1f} MiB"
    )
    assert set(statuses) <= {*REFUSALS, "reply"}
    assert all(a.equal(b) for a, b in zip(answers, known.logits, strict=True))
    assert after - before < GROWTH_MIB


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_computes_fails_the_request(tmp_path):
    folder = exported(tmp_path, deployment(Lingering(), "stem"), model=LINGERING)
    asked, outcome = tmp_path / "linger", []
    with ExitStack() as stack:
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = {"PYTHONPATH": paths, "RUNTIME_WORLD_LINGER": str(asked)}
        options = ["--trust", "runtime_world"]
        server = started(stack, folder, tmp_path / "s", environment=environment, options=options)
        client = stack.enter_context(
            Client.open(
                folder_of(folder, 0), server.address, timeout_s=120.0, trust=["runtime_world"]
            )
        )

        def ask():
            try:
                outcome.append(client.request(images(1)))
            except RequestFailed as error:
                outcome.append(error)

        ask()
        assert outcome.pop().pid == server.pid, "it answers while nobody asks it to linger"
        asked.touch()
        asking = threading.Thread(target=ask)
        asking.start()
        end = time.monotonic() + 60
        while not asked.with_suffix(".began").exists():
            assert time.monotonic() < end, "it never began to compute"
            time.sleep(0.01)
        assert asking.is_alive(), "the request was over before the server was killed"
        server.kill()
        asking.join(60)
    assert isinstance(outcome[0], RequestFailed)
    assert outcome[0].status == "UNAVAILABLE"
    assert not asked.with_suffix(".ended").exists(), "it was killed while it computed"
