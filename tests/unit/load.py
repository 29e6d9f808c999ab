"""Many clients that know what they will be told."""

import random
import threading
import time
from collections import Counter

import torch
from runtime_world import images

from offloading.runtime.client import Client
from offloading.runtime.errors import RequestFailed
from offloading.runtime.transport import Credentials, GrpcTransport


class Known:
    """A plan's first segment, and images whose logits are known before anybody is asked."""

    def __init__(self, head, stage, count=16):
        self.head = head
        self.images = images(count)
        with torch.no_grad():
            self.logits = [
                stage.module(
                    tuple(
                        t[None]
                        for t in stage.codec.decode(
                            head.codec.encode([t[0] for t in head.client(image[None])])
                        )
                    )
                )
                for image in self.images
            ]

    def client(self, address, name):
        """A connection of its own: the name changes nothing else, without a certificate."""
        return Client(self.head, GrpcTransport(address, Credentials(name=name)), timeout_s=60.0)


def hammer(plans, *, clients, seconds):
    """Ask from so many threads for so long.

    Args:
        plans: Pairs of an address and the `Known` that is served there. Clients take turns, and
            ask now and then at the address of another plan.

    Returns:
        How many ``requests`` were made, how many were ``right``, ``wrong``, ``busy`` (refused
        as RESOURCE_EXHAUSTED, and asked again), ``foreign`` (refused as of another plan) or failed
        with another status.
    """
    counts, lock, begin = Counter(), threading.Lock(), threading.Barrier(clients)

    def run(number):
        own, decided = Counter(), random.Random(number)
        opened = [known.client(address, f"client{number}") for address, known in plans]
        strange = plans[0][1].client(plans[1][0], f"client{number}")
        begin.wait(60)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            foreign = decided.random() < 0.05
            which = 0 if foreign else decided.randrange(len(plans))
            known = plans[which][1]
            own["requests"] += 1
            own[_asked(strange if foreign else opened[which], known, decided, foreign)] += 1
        for client in (*opened, strange):
            client.close()
        with lock:
            counts.update(own)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 120)
    assert not any(thread.is_alive() for thread in threads), "a reply was lost"
    return counts


def _asked(client, known, decided, foreign):
    """What became of one request about one image."""
    number = decided.randrange(len(known.images))
    try:
        answer = client.request(known.images[number])
    except RequestFailed as error:
        if error.status == "RESOURCE_EXHAUSTED":
            time.sleep(decided.uniform(0.005, 0.05))
            return "busy"
        expected = foreign and error.status == "FAILED_PRECONDITION"
        return "foreign" if expected else error.status
    return "right" if not foreign and torch.equal(answer.logits, known.logits[number]) else "wrong"


def check(counts):
    """Every request has its own answer or a refusal that the documentation names."""
    assert set(counts) <= {"requests", "right", "busy", "foreign"}, dict(counts)
    assert counts["right"] == counts["requests"] - counts["busy"] - counts["foreign"]
    assert counts["right"] > 0
