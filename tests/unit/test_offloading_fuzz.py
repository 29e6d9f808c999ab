"""Whatever a peer sends, the answer is a reply or a refusal of a documented status."""

import random
import re
from collections import Counter

import pytest
import torch
from memory import forget_peak, resident_mib
from mutations import Mutations, with_payload
from runtime_world import deployment, exported, images, lenet

from offloading.runtime import wire
from offloading.runtime.artefact import folder_of
from offloading.runtime.client import Client
from offloading.runtime.errors import Refused, RequestFailed
from offloading.runtime.segments import load_head, load_stage
from offloading.runtime.trace import now_ns
from offloading.runtime.transport import GrpcTransport
from offloading.runtime.worker import Worker
from splitbench.codecs import container
from splitbench.codecs.channel_subset import ChannelSubset
from splitbench.codecs.entropy_coded import EntropyCoded
from splitbench.codecs.float16 import Float16
from splitbench.codecs.float32 import Float32
from splitbench.codecs.jpeg import Jpeg
from splitbench.codecs.raw_image import RawImage
from splitbench.codecs.sign import Sign
from splitbench.codecs.top_k import TopK
from splitbench.codecs.uniform import Uniform
from splitbench.release import TensorSpec

REFUSALS = {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
GROWTH_MIB = 48  # of the process, at most, after it has warmed up
FEW = {"float32": ("relu3", Float32()), "uniform": ("relu1", Uniform(bits=4))}
CODECS = {
    **FEW,
    "float16": ("relu3", Float16()),
    "uniform_channel": ("relu2", Uniform(bits=3, per="channel")),
    "top_k": ("relu2", TopK(fraction=0.1)),
    "sign": ("relu2", Sign()),
    "channel_subset": ("relu2", ChannelSubset(dropped=0.5)),
    "entropy_coded": ("relu2", EntropyCoded(limit=15)),
    "raw_image": ("input", RawImage()),
    "jpeg": ("input", Jpeg(quality=75)),
}


class Target:
    """A plan's server without a socket, messages that it answers, and its client."""

    def __init__(self, root, cut, codec):
        folder = exported(root, deployment(lenet(), cut, codec=codec))
        self.head = load_head(folder_of(folder, 0))
        self.worker = Worker(load_stage(folder_of(folder, 1)))
        self.good = [self._message(image) for image in images(4)]
        self.seal = codec._seal()

    def _message(self, image):
        with torch.no_grad():
            payload = self.head.codec.encode([t[0] for t in self.head.client(image[None])])
        plan = self.head.manifest.deployed.id
        return wire.message("request", segment=1, plan=plan, request=b"r" * 16, payload=payload)

    def outcome(self, whole):
        """``reply``, or the status of the refusal; anything else is what the test looks for."""
        try:
            reply = self.worker.answer(whole, received_ns=now_ns())
        except Refused as refusal:
            return refusal.status if 0 < len(str(refusal)) < 400 else f"no sentence: {refusal}"
        logits = wire.read_reply(reply[wire.HEADER_BYTES :], classes=10).logits
        assert torch.isfinite(logits).all()
        return "reply"


@pytest.fixture(scope="module")
def target_of(tmp_path_factory):
    made = {}

    def target(name):
        if name not in made:
            made[name] = Target(tmp_path_factory.mktemp(name), *CODECS[name])
        return made[name]

    return target


def fuzzed(target, count, seed):
    """Outcomes by what was done to the message."""
    seen = {}
    messages = Mutations(random.Random(seed), target.good, target.seal)
    for kind, whole in messages.take(count):
        seen.setdefault(kind, Counter())[target.outcome(whole)] += 1
    return seen


def check_outcomes(seen):
    assert set().union(*seen.values()) <= {*REFUSALS, "reply"}
    for kind in ("cut", "longer", "bytes_changed", "spliced", "noise"):
        assert seen[kind]["reply"] == 0, f"{kind}: a checksum was not looked at"
    # Behind the checksums a request's name, and numbers of the features, may be any.
    assert seen["header"]["reply"] > 0
    assert seen["header"]["FAILED_PRECONDITION"] > 0
    assert seen["header"]["RESOURCE_EXHAUSTED"] > 0


@pytest.mark.parametrize("name", FEW)
def test_mutated_messages_are_refused_and_leave_nothing_behind(target_of, name):
    target = target_of(name)
    before = target.worker.answer(target.good[0], received_ns=now_ns())
    check_outcomes(fuzzed(target, 1500, seed=1))
    after = target.worker.answer(target.good[0], received_ns=now_ns())
    logits = [
        wire.read_reply(raw[wire.HEADER_BYTES :], classes=10).logits for raw in (before, after)
    ]
    assert torch.equal(*logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_thousands_of_mutated_messages_are_refused_and_need_no_memory(
    target_of, name, record_testsuite_property
):
    target = target_of(name)
    fuzzed(target, 2_000, seed=2)  # whatever is loaded or cached at first
    before = resident_mib()
    forget_peak()
    seen = fuzzed(target, 12_000, seed=3)
    grown, peak = resident_mib() - before, resident_mib(field="VmHWM") - before
    check_outcomes(seen)
    statuses = sum(seen.values(), Counter())
    record_testsuite_property(
        "measured", f"{name}: {dict(statuses)}, {grown:+.1f} MiB, peak {peak:+.1f} MiB"
    )
    assert grown < GROWTH_MIB
    assert peak < GROWTH_MIB


def bomb(target, values):
    """A message of few bytes, of so many zeros, under right checksums."""
    codec = target.head.codec
    body = bytes(codec.body_bytes((values,)))
    spec = [TensorSpec("0", (values,))]
    payload = container.write(spec, body, codec=codec.number, seal=target.seal, coded=True)
    return with_payload(target.good[0], payload)


def test_a_few_bytes_that_decode_to_much_are_refused_before_they_are_decoded(target_of):
    target = target_of("uniform")
    whole = bomb(target, 2**24)
    assert len(whole) < target.head.manifest.deployed.bounds[0], "the message is not too long"
    before = resident_mib()
    forget_peak()
    with pytest.raises(Refused, match="max_bytes=18816") as caught:
        target.worker.answer(whole, received_ns=now_ns())
    assert caught.value.status == "INVALID_ARGUMENT"
    assert resident_mib(field="VmHWM") - before < GROWTH_MIB


class Liar(GrpcTransport):
    """Returns what a server said to the same request, after somebody has changed it."""

    def __init__(self, worker, change):
        super().__init__("unix:/nowhere")

        def run(pieces, timeout, metadata):
            del timeout, metadata
            whole = b"".join(pieces)
            return change(worker.answer(whole, received_ns=now_ns()))

        self._run = run


def lied(target, count, seed):
    """What the client makes of mutated replies."""
    decided = random.Random(seed)
    seen = {}

    def change(raw):
        kind, made = next(iter(Mutations(decided, [raw], Float32()._seal())))
        if decided.random() < 0.5:
            kind, made = "notes", notes(decided, raw)
        seen.setdefault(kind, Counter())["made"] += 1
        last.append(kind)
        return made

    last = []
    with Client(target.head, Liar(target.worker, change)) as client:
        for _ in range(count):
            try:
                answer = client.request(images(1)[0])
            except RequestFailed as error:
                seen[last[-1]][error.status] += 1
            else:
                assert torch.isfinite(answer.logits).all()
                seen[last[-1]]["reply"] += 1
    return seen


def notes(decided, raw):
    """A reply whose JSON document is another one, under right checksums."""
    payload = raw[wire.HEADER_BYTES :]
    size = int.from_bytes(payload[:4], "little")
    text = payload[4 : 4 + size]
    word = decided.choice(text.replace(b",", b":").split(b":")).strip(b" []{}")
    other = decided.choice(
        [b"1e999", b"NaN", b"-1", b"9" * 400, b"9" * 5000, b"null", b"true", b"[]", b"{}", b'""',
         b'"\\\\ud800"', b"[" * 5000, b"\xff", b'"' + b"x" * 70_000 + b'"', b"1.5", word * 2]
    )  # fmt: skip
    if decided.random() < 0.2:
        text = re.sub(rb"\d{6,}", other, text)  # all stamps alike are in order
    else:
        text = text.replace(word, other, decided.choice([1, -1]))
    return with_payload(raw, len(text).to_bytes(4, "little") + text + payload[4 + size :])


def check_lies(seen):
    assert set().union(*seen.values()) <= {"made", "DATA_LOSS", "reply"}
    for kind in ("cut", "longer", "bytes_changed", "spliced", "noise", "claim", "coded"):
        assert seen[kind]["reply"] == 0, f"{kind}: a reply was believed"
    assert seen["notes"]["DATA_LOSS"] > 0


def test_mutated_replies_fail_the_request_and_nothing_else(target_of):
    check_lies(lied(target_of("float32"), 400, seed=4))


@pytest.mark.slow
def test_thousands_of_mutated_replies_fail_the_request_and_nothing_else(
    target_of, record_testsuite_property
):
    seen = lied(target_of("float32"), 10_000, seed=5)
    check_lies(seen)
    record_testsuite_property("measured", str(dict(sum(seen.values(), Counter()))))
