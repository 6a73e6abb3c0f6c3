"""Models by their names, the leases that requests have of them, and the remedies where there is none."""
