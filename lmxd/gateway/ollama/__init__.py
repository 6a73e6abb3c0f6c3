"""The routes of ollama's API."""
