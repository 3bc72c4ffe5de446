"""`python -m xorjax`, and the command `xorjax`."""

import sys


def main() -> None:
    """Runs the command line; says which extra it needs where that is not installed."""
    try:
        from xorjax.cli import app
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("typer", "rich", "scipy"):
            raise
        sys.exit(f"xorjax: the command needs {package}: pip install 'xorjax[cli]'")
    app()


if __name__ == "__main__":
    main()
