"""The authority of a fleet: who belongs to it, and what each may say on NATS."""
