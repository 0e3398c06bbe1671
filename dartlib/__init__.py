"""dartlib: difficulty-aware rejection tuning (arXiv 2407.13690) as small rooms behind six notebooks."""

__version__ = "0.1.0"
