"""HTTP fronts of the daemon. So far: /metrics."""
