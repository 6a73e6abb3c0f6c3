"""Copies of model files: a node offers what it has, and another fetches it."""
