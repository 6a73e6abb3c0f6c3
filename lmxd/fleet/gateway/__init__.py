"""The gateway of a fleet: has a node answer each request, and relays that over mutual TLS."""
