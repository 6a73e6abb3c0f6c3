"""HTTP servers on this machine: where they listen, who may connect, and what a browser may be made to ask."""
