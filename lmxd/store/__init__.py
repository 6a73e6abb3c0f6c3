"""What survives the daemon: rows in SQLite, and the one thread that writes them."""
