"""How a chunk of members is trained."""
