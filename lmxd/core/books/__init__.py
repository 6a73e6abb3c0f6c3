"""The books of the core: its state, and how one event changes it. No policy."""
