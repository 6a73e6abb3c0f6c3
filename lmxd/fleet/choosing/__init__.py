"""PURE: which node a request is to ask first. A choice is a guess; the node's own answer is the only commit."""
