"""lmxctl: the command line for people and scripts. Sees the daemon through ``rpc`` only; files by ``estimate``."""
