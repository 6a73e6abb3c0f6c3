"""vLLM: found, started, asked and understood."""
