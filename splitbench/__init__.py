"""SplitBench: the privacy attack and defense benchmark for split inference."""

__version__ = "0.1.0"
