"""Entropy coding: lengths, shapes, damage."""

import pytest
import torch

from splitbench.codec import CodecError
from splitbench.codecs.container import overhead
from splitbench.codecs.entropy_coded import EntropyCoded
from splitbench.release import TensorSpec
from splitbench.rng import stream

COUNTS = ((1, 2, 3, 40, 3, 2, 1), (10, 10, 10, 10, 10, 10, 10), (1, 1, 1, 65000, 1, 1, 1))


def drawn(count, *, seed=0):
    """Numbers from -3 to 3 as often as the counts say, one channel for each row of them."""
    weights = torch.tensor(COUNTS, dtype=torch.float64)
    codes = torch.multinomial(weights, count, replacement=True, generator=stream(seed, "numbers"))
    return (codes - 3).float()


def surprise(values):
    """Bits of numbers under the counts."""
    chances = torch.tensor(COUNTS, dtype=torch.float64)
    chances = chances / chances.sum(1, keepdim=True)
    return float(-chances.gather(1, (values.reshape(3, -1) + 3).long()).log2().sum())


def test_a_message_is_as_long_as_it_is_surprising():
    """O32: entropy <= mean length < entropy and a little; what was coded is decoded."""
    codec = EntropyCoded(limit=3).fitted([COUNTS])
    chances = torch.tensor(COUNTS, dtype=torch.float64)
    chances = chances / chances.sum(1, keepdim=True)
    entropy = 400 * float(-(chances * chances.log2()).sum())
    lengths = []
    for seed in range(60):
        values = drawn(400, seed=seed).reshape(3, 20, 20)
        message = codec.encode([values])
        assert torch.equal(codec.decode(message)[0], values)
        lengths.append(8.0 * (len(message) - overhead([TensorSpec("", (3, 20, 20))])))
        assert -1 <= lengths[-1] - surprise(values) <= 64
    mean = torch.tensor(lengths)
    slack = 3 * float(mean.std()) / len(mean) ** 0.5
    assert entropy - slack < float(mean.mean()) < entropy + 64


@pytest.mark.parametrize("number", [-3.0, 0.0, 3.0])
def test_a_message_of_one_number_throughout_takes_its_bits(number):
    """At most: an empty coder has one number for nothing, the lowest, but not more to say."""
    codec, values = EntropyCoded(limit=3), torch.full((1, 40, 50), number)
    message = codec.encode([values])
    assert torch.equal(codec.decode(message)[0], values)
    weights = 0.5 ** torch.arange(-3.0, 4.0).abs()
    wanted = 2000 * float(-(weights / weights.sum()).log2()[int(number) + 3])
    spent = 8 * (len(message) - overhead([TensorSpec("", (1, 40, 50))]))
    assert spent - wanted <= 64
    assert spent > 0.99 * wanted or number == -3


def test_a_channel_that_is_never_surprising_costs_next_to_nothing():
    codec = EntropyCoded(limit=3).fitted([COUNTS[2:]])
    body = len(codec.encode([torch.zeros(1, 50, 50)])) - overhead([TensorSpec("", (1, 50, 50))])
    assert body <= 8


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 5), (4, 1), (2, 2, 1, 3)])
def test_every_shape_comes_back(shape):
    values, codec = torch.randint(-3, 4, shape, generator=stream(0)).float(), EntropyCoded(limit=3)
    assert torch.equal(codec.decode(codec.encode([values]))[0], values)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (3, 4, 5)])
def test_every_channel_is_coded_with_its_own_counts(shape):
    codec = EntropyCoded(limit=3).fitted([COUNTS])
    values = torch.randint(-3, 4, shape, generator=stream(0)).float()
    assert torch.equal(codec.decode(codec.encode([values]))[0], values)
    apart = torch.zeros(shape).movedim(0 if len(shape) == 3 else -1, -1)
    apart[..., 1] = 3  # as likely as any number in this channel, rare in the others
    apart = apart.movedim(-1, 0 if len(shape) == 3 else -1)
    rare = torch.full(shape, 3.0)
    assert len(codec.encode([apart])) < len(codec.encode([rare]))


def test_several_tensors_are_told_apart():
    codec = EntropyCoded()
    values = [torch.full((2, 3, 3), 4.0), torch.zeros(7), torch.ones(2, 5)]
    message = codec.encode(values)
    assert all(map(torch.equal, codec.decode(message), values))
    assert len(message) <= codec.payload_bound([TensorSpec("", tuple(v.shape)) for v in values])


def test_what_lies_beyond_the_limit_arrives_as_the_limit():
    codec = EntropyCoded(limit=2)
    seen = codec.transform((torch.tensor([[-9.0, -2.4, 0.4, 0.6, 7.0]]),))
    assert seen[0].tolist() == [[-2.0, -2.0, 0.0, 1.0, 2.0]]
    assert float(codec.distance(seen, (torch.tensor([[-50.0, -1.6, 0.4, 1.4, 1.6]]),))) == 0


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(1, 2)], "2 counts"),
        ([(1, 0, 1)], "counts from 0"),
        ([(1, 2**24, 1)], "at most"),
    ],
)
def test_counts_that_no_coder_can_use_are_refused(rows, complaint):
    with pytest.raises(ValueError, match=complaint):
        EntropyCoded(limit=1).fitted([rows])


def test_a_message_needs_the_prior_that_it_was_written_with():
    one, other = (EntropyCoded(limit=1).fitted([[(1, n, 1)]]) for n in (5, 6))
    with pytest.raises(CodecError, match="other parameters"):
        other.decode(one.encode([torch.ones(1, 4, 4)]))
    with pytest.raises(ValueError, match="fitted to 1 channels"):
        one.encode([torch.ones(2, 4, 4)])
    with pytest.raises(ValueError, match="only float32"):
        one.encode([torch.ones(1, 4, 4, dtype=torch.int64)])


@pytest.mark.parametrize(
    "body",
    [b"\1", bytes(4), b"\1\0\0\0" + bytes(4), b"\7" * 40],
    ids=["no word", "a zero word", "a zero word at the end", "too much"],
)
def test_a_body_that_no_coder_writes_is_refused(body):
    codec = EntropyCoded(limit=1).fitted([[(30, 30, 30)]])
    with pytest.raises(CodecError):
        codec.unpack(body, (1, 5, 8))
