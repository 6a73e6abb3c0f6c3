"""Answers of engines: their parts, their errors and streams, and how they are passed on."""
