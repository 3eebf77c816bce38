"""Masks, scores and selection: pure functions over any parameter tree."""
