"""Many boxes, one endpoint. Each box's lmxd stays the only authority on its bytes; NATS says what others have."""
