"""Studies: labelled grids of members, in a store that survives whatever happens."""
