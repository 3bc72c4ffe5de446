"""Loops of scalars in a Pallas kernel."""
