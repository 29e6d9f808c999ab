"""What can go wrong between an artefact and an answer."""


class ArtefactError(ValueError):
    """A folder is no artefact that this program loads, or was changed since it was written."""


class WireError(ValueError):
    """Bytes of a peer are no message of this plan."""


class Refused(Exception):  # noqa: N818 (an answer, not a fault of the program)
    """A request that a segment does not take.

    Attributes:
        status: Name of the gRPC status that says why.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class RequestFailed(RuntimeError):  # noqa: N818
    """No answer came from the segments behind the device.

    Attributes:
        status: Name of the gRPC status: ``UNAVAILABLE`` where nobody was reached, ...
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
