"""The daemon: assembles the rooms and sees all of them. ``loop`` is the only writer of the core's state."""
