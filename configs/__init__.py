"""Hydra configuration, found as ``pkg://configs``."""
