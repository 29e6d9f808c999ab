"""Requests that come in bursts, and as they were recorded."""
