"""The way of a request to a node, for whoever asks: a gateway of the fleet, or a program."""
