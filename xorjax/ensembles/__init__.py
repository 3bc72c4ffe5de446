"""Many networks: who they are, on cores and devices."""
