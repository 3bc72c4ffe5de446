"""What lies in the store of a study, to hold one against another."""


def contents(root):
    """The bytes of every file but claims, by path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "claims" not in path.parts
    }
