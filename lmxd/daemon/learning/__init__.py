"""What running instances show of their size, kept for the estimates of the next."""
