"""Programs of tiny arrays with many members in vector lanes."""
