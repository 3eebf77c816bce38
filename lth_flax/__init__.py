"""Lottery tickets in stacked bidirectional LSTMs: find them, test them, keep them."""

__version__ = "2.0.0"
