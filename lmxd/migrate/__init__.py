"""The way here: profiles from what other tools are configured with, from model files, and a first configuration."""
