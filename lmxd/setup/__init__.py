"""``lmxd setup``: from nothing to the first answer."""
