"""The HTTP front, a process of its own: OpenAI's and ollama's APIs over leases, the dashboard, its own metrics."""
