"""Engines: what an instance runs. ``engine`` says what lmxd needs of one; ``llama_cpp`` is llama-server."""
