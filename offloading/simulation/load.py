"""The requests of many devices as one sequence."""

import math

import numpy as np
from numpy.typing import NDArray

from offloading.workload import Workload


def merged_arrivals(
    workload: Workload, requests: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The first requests of all devices: when each comes, in seconds, and of which device.

    Devices are independent, and at different points of their periods.
    """
    share = max(1, math.ceil(requests / workload.devices))
    while True:
        each = [
            own.uniform(0, 1 / workload.device_rate_per_s) + workload.arrivals.times(share, rng=own)
            for own in rng.spawn(workload.devices)
        ]
        times = np.concatenate(each)
        known_until = min(float(own[-1]) for own in each)  # later ones of some device are missing
        if np.count_nonzero(times <= known_until) >= requests:
            order = np.argsort(times, kind="stable")[:requests]
            return times[order], np.repeat(np.arange(workload.devices), share)[order]
        share *= 2
