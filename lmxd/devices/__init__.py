"""Devices: what there is, and how much of it is in use by whom. One thread, with a deadline."""
