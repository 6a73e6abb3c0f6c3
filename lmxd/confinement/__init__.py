"""Confines the process that it is called in, for good: what reads untrusted files can then do nothing else."""
