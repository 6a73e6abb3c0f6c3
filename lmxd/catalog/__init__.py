"""Names of models and what is wished of them, turned into bytes and places for the core and words for an engine."""
