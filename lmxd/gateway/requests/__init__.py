"""Requests of clients: whose they are, how much of them is read, what they ask, and the errors that refuse them."""
