"""The footprint of a launch: the closed form of lmxd/gguf for real files, plus what the process itself costs."""
