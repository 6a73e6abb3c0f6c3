"""The configuration: what can be said (schema) and how it is read (file)."""
