"""Messages as a hostile peer makes them, from random bytes to damage behind every checksum."""

import struct
import zlib
from itertools import islice

import zstandard

from offloading.runtime import wire
from splitbench.codecs import container

HEADER = struct.Struct("<4sBBBB8s16sII")
WORST = (0, 1, 2, 127, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def resealed(header, payload):
    """A message with these fields, magic and version included, under right checksums."""
    start = HEADER.pack(*header)
    return start + struct.pack("<I", zlib.crc32(start)) + payload


def with_payload(whole, payload):
    """The same header before another payload, both checksums and the length made right."""
    fields = HEADER.unpack(whole[: HEADER.size])
    return resealed((*fields[:-2], len(payload), zlib.crc32(payload)), payload)


def signed(body, seal):
    """A codec's message from all but its checksum."""
    return body + struct.pack("<I", zlib.crc32(body, seal))


def damaged(random, whole):
    """Some bytes replaced, removed, repeated, inserted or set to one value."""
    made = bytearray(whole)
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(made) + 1)
        end = min(len(made), start + random.choice([1, 1, 2, 4, 16, 200]))
        made[start:end] = random.choice(
            [
                random.randbytes(end - start),
                b"",
                bytes(made[start:end]) * 2,
                random.randbytes(random.randint(1, 8)) + bytes(made[start:end]),
                bytes([random.choice([0, 255])]) * (end - start),
                struct.pack("<I", random.choice(WORST)),
            ]
        )
    return bytes(made)


class Mutations:
    """An endless stream of messages, each with the name of what was done to it.

    Args:
        random: Decides everything.
        good: Messages that are answered.
        seal: Of the codec, where it is known.
    """

    def __init__(self, random, good, seal=None):
        self.random, self.good, self.seal = random, good, seal
        self.kinds = [
            self.cut, self.longer, self.bytes_changed, self.spliced, self.noise, self.header,
            self.payload,
        ]  # fmt: skip
        if seal is not None:
            self.kinds += [self.body, self.body, self.claim, self.claim, self.coded]

    def take(self, count):
        return islice(self, count)

    def __iter__(self):
        while True:
            kind = self.random.choice(self.kinds)
            whole = self.random.choice(self.good)
            made = kind(whole)
            if made != whole:
                yield kind.__name__, made

    def cut(self, whole):
        return whole[: self.random.randrange(len(whole))]

    def longer(self, whole):
        return whole + self.random.randbytes(self.random.randint(1, 100))

    def bytes_changed(self, whole):
        return damaged(self.random, whole)

    def spliced(self, whole):
        other = self.random.choice(self.good)
        places = sorted(self.random.randrange(len(whole)) for _ in range(2))
        return whole[: places[0]] + other[places[1] :] + whole[: self.random.randint(0, 9)]

    def noise(self, whole):
        start = self.random.choice([b"", whole[:4], whole[:5], whole[: wire.HEADER_BYTES]])
        return start + self.random.randbytes(self.random.randint(0, 300))

    def header(self, whole):
        """One field is another one, and both checksums are right: only the layer behind sees it."""
        fields = list(HEADER.unpack(whole[: HEADER.size]))
        place = self.random.randrange(len(fields))
        size = len(fields[place]) if isinstance(fields[place], bytes) else 0
        most = 255 if place < 5 else 2**32 - 1
        worst = [number for number in WORST if number <= most]
        fields[place] = self.random.randbytes(size) if size else self.random.choice(worst)
        return resealed(fields, whole[wire.HEADER_BYTES :])

    def payload(self, whole):
        """Damage that the codec's own checksum has to find."""
        return with_payload(whole, damaged(self.random, whole[wire.HEADER_BYTES :]))

    def body(self, whole):
        """Damage under every checksum: only the codec's checks of each claim are left."""
        message = whole[wire.HEADER_BYTES : -4]
        return with_payload(whole, signed(damaged(self.random, message), self.seal))

    def claim(self, whole):
        """Other shapes, types, counts and lengths in the codec's header."""
        codec = whole[wire.HEADER_BYTES + 5]
        count = self.random.choice([0, 1, 1, 1, 1, 2, 255])
        tensors = b"".join(self._tensor() for _ in range(min(count, 3)))
        length = struct.pack("<I", self.random.choice([*WORST, self.random.randint(0, 2000)]))
        start = container.MAGIC + bytes([1, codec, self.random.choice([0, 0, 1, 2]), count])
        rest = whole[wire.HEADER_BYTES + 30 : -4]
        return with_payload(whole, signed(start + tensors + length + rest, self.seal))

    def coded(self, whole):
        """A body of entropy-coded zeros that decodes to far more than the plan has."""
        codec = whole[wire.HEADER_BYTES + 5]
        size = self.random.choice([2**10, 2**16, 2**20])
        packed = zstandard.ZstdCompressor().compress(bytes(size))
        if self.random.random() < 0.5:
            packed = damaged(self.random, packed)
        axis = struct.pack("<BBI", 0, 1, self.random.choice([size, size // 4, 2 * size, 8 * size]))
        start = container.MAGIC + bytes([1, codec, 1, 1])
        message = start + axis + struct.pack("<I", size) + packed
        return with_payload(whole, signed(message, self.seal))

    def _tensor(self):
        axes = self.random.choice([0, 1, 2, 3, 3, 4, 8, 9])
        sizes = [self.random.choice([*WORST, 3, 10, 28]) for _ in range(axes)]
        kind = self.random.choice([0, 0, 0, 1, 5, 6, 7])
        return struct.pack(f"<BB{axes}I", kind, axes, *sizes)
