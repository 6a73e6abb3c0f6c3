"""Model files on this machine and on hubs: where they lie, what they are called, and how they come here."""
