"""The rows that outlive the daemon: they are the ledger, written before they are acted on, read when it starts."""
