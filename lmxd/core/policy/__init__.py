"""The policy of the core: it reads the books, and decides who is served, who waits, who is refused, and what ends."""
