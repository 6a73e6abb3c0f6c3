"""Pure: what a GGUF header says, and the bytes that llama.cpp takes for it (tests/test_architecture.py)."""
