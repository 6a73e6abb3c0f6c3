"""Pretended GPUs for llama-server's dry run. Runs as a process of its own (``python -m``), never imported."""
