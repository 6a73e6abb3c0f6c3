"""llama.cpp's llama-server: finding it, its flags, its readiness and activity, and how it fails."""
