"""The report of a plan: one HTML page that asks nothing of the network."""
