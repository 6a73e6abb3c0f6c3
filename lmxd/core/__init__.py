"""The pure core: events in, decisions out. No clock, no I/O, no randomness (tests/test_architecture.py)."""
