"""A peer that speaks HTTP/2 as badly as it likes, over a unix socket."""

import socket
import struct

from offloading.runtime.transport import METHOD

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
WINDOW = 65_535  # bytes of data that a server takes on a connection before it says more


def frame(kind, payload=b"", *, flags=0, stream=0):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name, value):
    """A header as two literals, which no table remembers."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def call(stream, *, timeout="20S", token=None):
    """The beginning of a request for the segment."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": timeout,
        **({"authorization": token} if token else {}),
    }
    block = b"".join(field(*pair) for pair in fields.items())
    return frame(HEADERS, block, flags=END_HEADERS, stream=stream)


def data(stream, chunk, *, claimed=None, last=False):
    """One chunk, or the beginning of one that is claimed to be longer."""
    prefix = b"\0" + struct.pack(">I", len(chunk) if claimed is None else claimed)
    return frame(DATA, prefix + chunk, flags=END_STREAM if last else 0, stream=stream)


HELLO = PREFACE + frame(SETTINGS)


HELLOS = {
    "nothing": b"",
    "half a preface": PREFACE[:11],
    "a preface and silence": PREFACE,
    "half a frame": HELLO[:-4],
    "another protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
    "a frame of 16 MiB": HELLO + b"\xff\xff\xff" + frame(DATA)[3:],
    "data of no stream": HELLO + frame(DATA, b"x" * 100, stream=5),
    "no headers at all": HELLO + frame(HEADERS, b"\xff" * 50, flags=4, stream=1),
}


class Peer:
    """A connection; says hello as HTTP/2 wants unless told otherwise."""

    def __init__(self, address, hello=HELLO):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(address.removeprefix("unix:"))
        self.socket.sendall(hello)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def heard(self, *, until=None):
        """What the server says until it says that, or hangs up."""
        said = b""
        while until is None or until not in said:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                break
            if not more:
                break
            said += more
        return said


def ask_and_do_not_listen(peer, message, count):
    """Send so many requests on one connection and read no byte; returns how many got out."""
    peer.socket.settimeout(0.5)
    for turn in range(count):
        try:
            peer.send(call(2 * turn + 1), data(2 * turn + 1, message, last=True))
        except OSError:
            return turn
    return count
