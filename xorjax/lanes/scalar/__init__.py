"""Every array element a scalar of its own."""
