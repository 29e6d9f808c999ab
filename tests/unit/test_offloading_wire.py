"""Headers, chunks and replies, and where the time of a request went."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offloading.runtime import wire
from offloading.runtime.errors import WireError
from offloading.runtime.trace import ServerTrace, clock_name, phases_ns
from offloading.runtime.transport import checked

WORDS = {"segment": 1, "plan": "0123456789abcdef", "request": b"r" * 16}


@given(payload=st.binary(max_size=500), size=st.integers(1, 600))
def test_a_message_arrives_in_whatever_chunks_it_is_sent(payload, size):
    whole = wire.message("request", payload=payload, **WORDS)
    arrived = wire.gathered(wire.chunks(whole, size), most=len(whole))
    found = wire.header(arrived)
    assert wire.payload_of(found, arrived[wire.HEADER_BYTES :]) == payload
    assert (found.kind, found.segment, found.plan, found.request) == ("request", *WORDS.values())


def test_no_chunk_is_larger_than_is_taken():
    sizes = [len(chunk) for chunk in wire.chunks(bytes(5 * 2**20 + 3))]
    assert sizes == [2**20] * 5 + [3]


@given(payload=st.binary(max_size=60), place=st.integers(0, 10**6), value=st.integers(1, 255))
def test_one_damaged_byte_anywhere_is_found(payload, place, value):
    whole = bytearray(wire.message("request", payload=payload, **WORDS))
    whole[place % len(whole)] ^= value
    with pytest.raises(WireError):
        wire.payload_of(wire.header(bytes(whole)), bytes(whole[wire.HEADER_BYTES :]))


@given(st.binary(max_size=200))
def test_garbage_is_no_header(garbage):
    with pytest.raises(WireError):
        wire.header(garbage)


def test_a_stream_ends_where_the_limit_is():
    with pytest.raises(OverflowError):
        wire.gathered([b"12345", b"6"], most=5)
    assert wire.gathered([b"12345"], most=5) == b"12345"
    with pytest.raises(WireError):
        wire.gathered([b"1", b""], most=5)


def endless():
    while True:
        yield b"x" * 1000


def test_an_endless_stream_is_cut_short():
    with pytest.raises(OverflowError):
        wire.gathered(endless(), most=10_000)


LOGITS = torch.tensor([[0.5, -1.25, 3.0]])


def replied(servers=({"a": 1},), **changes):
    payload = wire.reply_payload(wire.Reply(LOGITS, tuple(servers)))
    return wire.message("reply", payload=payload, **{**WORDS, **changes})


def test_a_reply_reads_back():
    asked = wire.message("request", payload=b"", **WORDS)
    reply = checked(replied(), asked, classes=3)
    assert torch.equal(reply.logits, LOGITS)
    assert reply.servers == ({"a": 1},)


@pytest.mark.parametrize("changes", [{"segment": 2}, {"plan": "0" * 16}, {"request": b"x" * 16}])
def test_the_reply_to_something_else_is_refused(changes):
    asked = wire.message("request", payload=b"", **WORDS)
    with pytest.raises(WireError, match="something else"):
        checked(replied(**changes), asked, classes=3)


def test_a_reply_with_other_logits_is_refused():
    asked = wire.message("request", payload=b"", **WORDS)
    with pytest.raises(WireError, match="12 bytes of logits, want 16"):
        checked(replied(), asked, classes=4)


def test_a_reply_with_a_logit_that_is_no_number_is_refused():
    sound = wire.reply_payload(wire.Reply(torch.zeros(1, 3), ()))
    assert wire.read_reply(sound, classes=3).logits.eq(0).all()
    with pytest.raises(WireError, match="NaN or infinite"):
        wire.read_reply(sound[:-4] + np.float32("nan").tobytes(), classes=3)
    with pytest.raises(ValueError, match="NaN or infinite"):
        wire.reply_payload(wire.Reply(torch.full((1, 3), torch.inf), ()))


@pytest.mark.parametrize("text", ["7", "{}", "[7]", '[{"a": [1]}]', '[{"a": NaN}]', "[" * 9999])
def test_a_reply_whose_notes_are_no_names_and_numbers_is_refused(text):
    logits = bytes(12)
    assert wire.read_reply((2).to_bytes(4, "little") + b"[]" + logits, classes=3).servers == ()
    with pytest.raises(WireError):
        wire.read_reply(len(text).to_bytes(4, "little") + text.encode() + logits, classes=3)


@given(st.binary(max_size=100))
def test_a_reply_of_garbage_is_refused(garbage):
    with pytest.raises(WireError):
        wire.read_reply(garbage, classes=3)


def trace(segment, *stamps, clock=None, sent=None):
    names = ("received_ns", "decoded_ns", "started_ns", "computed_ns", "replied_ns")
    stamped = dict(zip(names, stamps, strict=True))
    return ServerTrace(
        segment=segment,
        pid=1,
        host="h",
        clock=clock or clock_name(),
        waiting=0,
        sent_ns=sent,
        **stamped,
    )


def used(spent):
    return {name: ns for name, ns in spent.items() if ns}


def test_the_phases_of_one_server_are_the_differences_of_the_stamps():
    spent = phases_ns(0, 1, 3, 100, [trace(1, 13, 18, 20, 60, 61)])
    wanted = {"head": 1, "encode": 2, "up": 10, "decode": 5, "queue": 2, "tail": 40, "down": 40}
    assert used(spent) == wanted


def test_the_phases_of_a_chain_sum_to_the_whole():
    servers = [trace(1, 13, 18, 20, 30, 90, sent=34), trace(2, 40, 41, 41, 80, 82)]
    spent = phases_ns(0, 1, 3, 100, servers)
    assert used(spent) == {
        "head": 1, "encode": 2 + 4, "up": 10 + 6, "decode": 5 + 1, "queue": 2, "middle": 10,
        "tail": 39, "down": 10 + 10,
    }  # fmt: skip
    assert sum(spent.values()) == 100


def test_ways_to_a_machine_with_another_clock_are_not_told_apart():
    far = 10**15
    server = trace(1, far, far + 5, far + 5, far + 45, far + 46, clock="another")
    spent = phases_ns(0, 1, 3, 100, [server])
    assert used(spent) == {"head": 1, "encode": 2, "decode": 5, "tail": 40, "network": 52}
    assert sum(spent.values()) == 100


def test_waiting_in_vain_is_a_phase_of_its_own():
    spent = phases_ns(0, 1, 3, 100, [], failed=90)
    assert used(spent) == {"head": 1, "encode": 2, "failed": 87, "tail": 10}


def test_stamps_out_of_order_or_of_another_kind_are_refused():
    good = trace(1, 1, 2, 3, 4, 5).to_dict()
    assert ServerTrace.from_dict(good).to_dict() == good
    for change in ({"pid": "1"}, {"pid": True}, {"received_ns": 3}, {"more": 1}, {"host": None}):
        with pytest.raises(WireError):
            ServerTrace.from_dict({**good, **change})
    with pytest.raises(WireError):
        ServerTrace.from_dict({k: v for k, v in good.items() if k != "clock"})
    stamps = [name for name, value in good.items() if name.endswith("_ns") and value is not None]
    for number in (10**400, 2**63, -1):
        with pytest.raises(WireError, match="no times of a clock"):
            ServerTrace.from_dict({**good, **dict.fromkeys(stamps, number)})


def test_how_many_wait_is_a_number_that_a_server_can_let_in():
    good = trace(1, 1, 2, 3, 4, 5).to_dict()
    assert ServerTrace.from_dict({**good, "waiting": 31}).waiting == 31
    for claimed in (-1, 2**16 + 1, 10**400, 2.0, True, None, "3"):
        with pytest.raises(WireError):
            ServerTrace.from_dict({**good, "waiting": claimed})
    with pytest.raises(WireError):
        ServerTrace.from_dict({k: v for k, v in good.items() if k != "waiting"})
