"""The gateway of a fleet: finds a node for each request, and relays its answer over mutual TLS."""
