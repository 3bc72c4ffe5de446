"""`xorjax examples`: what the examples claim, how they are run, and copies of them to change.

They lie in the repository's folder `examples`; a wheel has them beside this file (`pyproject.toml` puts them
there), since what is installed should be shown by what is installed.
"""

import ast
from pathlib import Path
from typing import Annotated

import typer

from xorjax.studies.options import chosen

PACKAGE = Path(__file__).parent.parent
FOLDERS = (PACKAGE / "_examples", PACKAGE.parent / "examples")  # of a wheel, and of a clone


def found() -> dict[str, Path]:
    """The files of the examples by name, in alphabetical order.

    Raises:
      FileNotFoundError: if there are none, in an installation that is neither a wheel nor a clone.
    """
    for folder in FOLDERS:
        if files := sorted([*folder.glob("*.py"), *folder.glob("*.toml")]):
            return {file.stem: file for file in files}
    raise FileNotFoundError(f"no examples are in {' or '.join(map(str, FOLDERS))}.")


def described(file: Path) -> str:
    """What an example says of itself: its docstring, or the comment at the top of a study."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return ast.get_docstring(ast.parse(text)) or ""
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])


def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which; all of them without.")] = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Copy it there, to change it; no file is overwritten.", file_okay=False
        ),
    ] = None,
) -> None:
    """The examples: what each claims and where it is; of one, how to run it and what it prints."""
    examples = found()
    if name is None:
        if copy is not None:
            raise typer.BadParameter(f"--copy={copy} wants a name, one of {', '.join(examples)}.")
        width = max(map(len, examples))
        for each, file in examples.items():
            claim = described(file).partition("\n")[0]
            typer.echo(f"{each:<{width}}  {claim}\n{'':<{width}}  {file}")
        return
    file = chosen("NAME", name, examples)
    if copy is None:
        typer.echo(f"{described(file)}\n\n{file}")
        return
    typer.echo(copied(file, copy))


def copied(file: Path, folder: Path) -> Path:
    """The copy of a file in a folder, which is made if it is missing.

    Raises:
      BadParameter: if there is such a file already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy, content = folder / file.name, file.read_bytes()
    try:
        with copy.open("xb") as new:
            new.write(content)
    except FileExistsError:
        raise typer.BadParameter(f"--copy={folder}: {copy} is there already, and is not overwritten.") from None
    return copy
