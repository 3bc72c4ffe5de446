"""Arrays with the lanes last."""
