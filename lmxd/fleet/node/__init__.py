"""A node's part: it says of its box what others need to know, answers their calls, and lets their gateways in."""
