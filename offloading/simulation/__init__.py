"""Plans under load: requests that come at random, wait, start what is cold, and are paid for."""

from offloading.simulation.outcome import Interval, Simulated, TierLoad
from offloading.simulation.simulate import simulate
from offloading.simulation.stations import Autoscaling

__all__ = ["Autoscaling", "Interval", "Simulated", "TierLoad", "simulate"]
