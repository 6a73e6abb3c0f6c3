"""Processes: spawned, watched by pidfd, ended as a group; their logs and their ports."""
