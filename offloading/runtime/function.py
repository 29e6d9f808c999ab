"""A segment as a serverless function: one event in, one JSON reply out.

``offloading.runtime.function.handler`` is what the platform is told to call. The model is loaded
once for each instance, by `loaded` or by the first event, from the folder that
``SPLITBENCH_ARTEFACT`` names. Only the last segment runs this way: a function that waits for
another server would be billed for waiting.

Who may call it is for the platform to decide; this function asks for no token.
"""

import base64
import binascii
import json
import os
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from offloading.runtime import wire
from offloading.runtime.errors import ArtefactError, Refused
from offloading.runtime.segments import load_stage
from offloading.runtime.trace import now_ns
from offloading.runtime.worker import Worker

FOLDER, TRUST, THREADS = "SPLITBENCH_ARTEFACT", "SPLITBENCH_TRUST", "SPLITBENCH_THREADS"
MOST_BODY_BYTES = 6 * 2**20  # what platforms take in one event
_STATUS = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 412, "RESOURCE_EXHAUSTED": 413}
Json = dict[str, Any]


class Instance:
    """What one instance of the function holds between events.

    Attributes:
        worker: Computes.
        load_ms: What it took to load it.
        events: How many it was asked to answer.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        began = time.perf_counter()
        folder = environment.get(FOLDER)
        if not folder:
            raise ArtefactError(f"{FOLDER} must name the folder of an exported segment")
        torch.set_num_threads(int(environment.get(THREADS, "1")))
        trust = [name for name in environment.get(TRUST, "").split(",") if name]
        stage = load_stage(Path(folder), trust=trust)
        if not stage.manifest.is_last:
            raise ArtefactError(f"{folder} is not the last segment: serve it from a machine")
        self.worker = Worker(stage)
        self.load_ms = (time.perf_counter() - began) * 1000
        self.events = 0

    def answer(self, event: Mapping[str, Any]) -> Json:
        """The platform's reply to one event: a status, and a JSON document as text."""
        self.events += 1
        try:
            return _reply(200, self._answered(_body(event)))
        except Refused as error:
            return _reply(
                _STATUS.get(error.status, 500), {"status": error.status, "error": str(error)}
            )

    def _answered(self, whole: bytes) -> Json:
        raw = self.worker.answer(whole, received_ns=now_ns())
        classes = self.worker.stage.manifest.deployed.classes
        reply = wire.read_reply(raw[wire.HEADER_BYTES :], classes=classes)
        return {
            "reply": base64.b64encode(raw).decode("ascii"),
            "logits": reply.logits[0].tolist(),
            "servers": list(reply.servers),
            "cold": self.events == 1,
            "load_ms": self.load_ms,
        }


def handler(event: Mapping[str, Any], context: object) -> Json:
    """Answer one event.

    Args:
        event: ``body`` holds a message for this segment, in base64, and ``isBase64Encoded`` is
            true, as platforms deliver binary requests.
        context: The platform's, not looked at.

    Returns:
        ``statusCode`` (200; 400, 412 or 413 where the message is refused; 500), ``headers``, and as
        ``body`` a JSON document: ``reply`` is the message that a server would send (base64),
        ``logits`` and ``servers`` are what it says, ``cold`` marks the first event of an instance.

    Raises:
        ArtefactError: There is no segment to load; the platform reports that the function failed.
    """
    del context
    return loaded().answer(event)


@cache
def loaded() -> Instance:
    """This process's instance; call it when the platform starts one, before any event."""
    return Instance(os.environ)


def event_of(message: bytes) -> Json:
    """The event that delivers a message."""
    return {"body": base64.b64encode(message).decode("ascii"), "isBase64Encoded": True}


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") if isinstance(event, Mapping) else None
    if not isinstance(text, str) or event.get("isBase64Encoded") is not True:
        raise Refused("INVALID_ARGUMENT", "want a body in base64, and isBase64Encoded true")
    if len(text) > MOST_BODY_BYTES:
        raise Refused("RESOURCE_EXHAUSTED", f"a body of more than {MOST_BODY_BYTES} characters")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("INVALID_ARGUMENT", f"the body is not base64: {error}") from error


def _reply(status: int, document: Json) -> Json:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(document, allow_nan=False),
    }
