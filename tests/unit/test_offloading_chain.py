"""Three segments, each behind its own certificate and token."""

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import torch
from certificates import certificate
from runtime_world import deployment, exported, images, lenet, serving

from offloading.runtime.artefact import folder_of
from offloading.runtime.client import Client
from offloading.runtime.errors import RequestFailed
from offloading.runtime.process import ServerProcess
from offloading.runtime.segments import load_head
from offloading.runtime.server import Access
from offloading.runtime.transport import Credentials, GrpcTransport

NAMES = {1: "edge", 2: "cloud"}
TOKENS = {1: "of the edge", 2: "of the cloud"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    model = deployment(lenet(), "relu1")
    return exported(tmp_path_factory.mktemp("plans"), model, later_cuts=["relu3"])


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """By segment: what its server has, and what its callers show."""
    root = tmp_path_factory.mktemp("papers")
    made = {k: certificate(root / str(k), NAMES[k]) for k in NAMES}
    access = {k: Access(token=TOKENS[k], certificate=made[k][0], key=made[k][1]) for k in made}
    shown = {k: Credentials(token=TOKENS[k], root=made[k][0], name=NAMES[k]) for k in made}
    return access, shown


@contextmanager
def chained(folder, access, shown):
    """A server of segment 1, whose way to segment 2 shows those credentials."""
    with ExitStack() as stack:
        last = stack.enter_context(serving(folder, 2, access=access[2]))
        onwards = GrpcTransport(last.address, shown)
        stack.callback(onwards.close)

        def forward(message, left):
            return onwards.ask(message, classes=10, timeout_s=left)

        yield stack.enter_context(serving(folder, 1, access=access[1], forward=forward))


def test_every_hop_of_a_chain_has_its_own_certificate_and_token(plan, papers):
    access, shown = papers
    image = images(1)
    with chained(plan, access, shown[2]) as server:
        transport = GrpcTransport(server.address, shown[1])
        with Client(load_head(folder_of(plan, 0)), transport) as client:
            answer = client.request(image)
    assert [trace.segment for trace in answer.servers] == [1, 2]
    assert torch.allclose(answer.logits, lenet()(image), atol=1e-5)


@pytest.mark.parametrize("wrong", ["token", "certificate"])
def test_a_chain_whose_second_hop_is_refused_says_so(plan, papers, wrong):
    access, shown = papers
    other = {
        "token": replace(shown[2], token=TOKENS[1]),
        "certificate": replace(shown[2], root=shown[1].root),
    }
    with chained(plan, access, other[wrong]) as server:
        transport = GrpcTransport(server.address, shown[1])
        client = Client(load_head(folder_of(plan, 0)), transport, timeout_s=10.0)
        with client, pytest.raises(RequestFailed) as caught:
            client.request(images(1))
    assert caught.value.status == ("UNAUTHENTICATED" if wrong == "token" else "UNAVAILABLE")


def named(server):
    """Its address by the name in its certificate."""
    return server.address.replace("127.0.0.1", "localhost")


@pytest.mark.slow
def test_a_chain_of_processes_with_certificates_and_tokens_answers(plan, papers, tmp_path):
    access, shown = papers
    words = {}
    for k in access:
        token = tmp_path / f"token{k}"
        token.write_text(f"{TOKENS[k]}\n")
        words[k] = ["--token-file", str(token), "--cert", str(access[k].certificate)]
        words[k] += ["--key", str(access[k].key)]
    with ExitStack() as stack:
        last = stack.enter_context(
            ServerProcess(folder_of(plan, 2), "127.0.0.1:0", options=words[2])
        )
        words[1] += ["--next", named(last), "--next-token-file", str(tmp_path / "token2")]
        words[1] += ["--next-root", str(shown[2].root)]
        first = stack.enter_context(
            ServerProcess(folder_of(plan, 1), "127.0.0.1:0", options=words[1])
        )
        credentials = replace(shown[1], name=None)
        client = stack.enter_context(
            Client.open(folder_of(plan, 0), named(first), credentials=credentials)
        )
        answers = [client.request(image) for image in images(3)]
    assert {tuple(s.pid for s in answer.servers) for answer in answers} == {(first.pid, last.pid)}
    for image, answer in zip(images(3), answers, strict=True):
        assert torch.allclose(answer.logits, lenet()(image[None]), atol=1e-5)
