"""Entry points: compose a configuration, run it, aggregate, report."""
