"""What follows from the books: who is served, who waits, who goes, and what each is told."""
