"""Data, models, losses, Keras weights."""
