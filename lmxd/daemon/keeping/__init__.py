"""What outlives the daemon: rows of the ledger, written before they are acted on, read when it starts."""
