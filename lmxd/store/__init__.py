"""Rows in SQLite, which survive the daemon, and the one thread that writes them."""
