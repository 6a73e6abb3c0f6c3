"""Learns from running instances how large they are, for the estimates of the next."""
