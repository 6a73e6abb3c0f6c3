"""What is remembered, and how a fact is taken in. No policy."""
