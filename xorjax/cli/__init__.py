"""The command `xorjax`: options in, the library at work, words out. Nothing is computed here.

`main` has the commands `train`, `ensemble` and `info`, `study` those of studies. `options` turns the options of
all of them into a `studies.plan.Plan`, and refuses wrong ones; `terminal` prints errors, bars and reports.
To add an option, add its key to `studies.plan_keys`, its type and help to `options`, and its name to the commands.

>>> from typer.testing import CliRunner
>>> from xorjax.cli.main import app
>>> CliRunner().invoke(app, ["train", "--lr", "0.1"]).stderr
'xorjax: No such option: --lr; did you mean --learning-rate?\\n'
"""
