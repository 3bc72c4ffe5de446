"""`python -m xorjax`, and the command `xorjax`."""

import sys


def main() -> None:
    """Run the command, or say which extra it needs."""
    try:
        from xorjax.cli.main import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "scipy", "tqdm"):
            raise
        sys.exit(f"xorjax: the command needs {error.name}: pip install 'xorjax[cli]'")
    app()


if __name__ == "__main__":
    main()
