"""One network: the pure functions that train it."""
