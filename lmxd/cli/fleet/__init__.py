"""``lmxctl fleet``: all nodes of a fleet, as its operators see them."""
