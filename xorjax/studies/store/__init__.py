"""How members lie on disk."""
