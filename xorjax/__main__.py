"""`python -m xorjax`, and the command `xorjax`."""

import sys


def main() -> None:
    """Runs the command line; says which extra it needs where that is not installed."""
    try:
        from xorjax.cli.main import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "scipy"):
            raise
        sys.exit(f"xorjax: the command needs {error.name}: pip install 'xorjax[cli]'")
    app()


if __name__ == "__main__":
    main()
