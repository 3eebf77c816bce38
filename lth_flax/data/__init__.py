"""From text to encoded, split and bucketed arrays (NumPy)."""
