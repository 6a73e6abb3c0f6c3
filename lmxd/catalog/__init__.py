"""The catalog: a model's name and a size become bytes and places for the core, and a plan for the engine."""
