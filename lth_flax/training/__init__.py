"""One replicate, and the engine that trains a table of them."""
