"""One run: its work directory, its tables, and what they leave."""
