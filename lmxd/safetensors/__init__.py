"""Model directories as Hugging Face has them, and the bytes that vLLM takes for one. This is pure."""
