"""How fast a device believes its link to be."""

from offloading.adaptation.estimator import Estimator

STALE_S = 15.0


class Rate:
    """What a device takes the rate of its link for.

    A device that sends nothing learns nothing, so after a while it has to send one request to see.
    What it then sees counts alone: transfers from before the silence speak of another network.

    Args:
        estimator: Of single transfers.
        mbps: What the rate is taken for before anything was sent, > 0.
        stale_s: Silence after which a transfer is made to see, > 0.
    """

    def __init__(self, estimator: Estimator, *, mbps: float, stale_s: float) -> None:
        if not (mbps > 0 and stale_s > 0):
            raise ValueError(f"mbps={mbps}, stale_s={stale_s}: both must be positive")
        self.estimator, self.first_mbps, self.stale_s = estimator, mbps, stale_s
        self._sent_s = 0.0

    @property
    def mbps(self) -> float:
        """The estimate."""
        known = self.estimator.mbps
        return self.first_mbps if known is None else known

    def is_stale(self, now_s: float) -> bool:
        """Whether nothing was sent for long."""
        return now_s - self._sent_s >= self.stale_s

    def observe(self, now_s: float, mbps: float) -> None:
        """A transfer went at this rate."""
        if self.is_stale(now_s):
            self.estimator.forget()
        self.estimator.observe(mbps)
        self._sent_s = now_s
