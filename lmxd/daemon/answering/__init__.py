"""Calls, and what they are answered: who asks, what the core makes of it, how it is told."""
