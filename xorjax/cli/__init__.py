"""The command `xorjax`: options in, the library at work, words out. Nothing is computed here.

The module `main` has the commands `train`, `ensemble` and `info`, the module `study` those of studies. `options`
turns the options of all of them into a `studies.plan.Plan`, and refuses wrong ones; `terminal` prints errors,
bars and reports.

To add an option: its key goes to `studies.plan_keys`, its use to `studies.plan.build_setup`, its type and help to
`options.PLAN_OPTIONS`, its name to `take_options` of the commands, and its word in reports to
`reports.tables.describe_training`. (A hyper-parameter, which may differ by member, goes to
`options.HYPER_PARAMETERS`.)

>>> from typer.testing import CliRunner
>>> from xorjax.cli.main import app
>>> CliRunner().invoke(app, ["train", "--lr", "0.1"]).stderr
'xorjax: No such option: --lr; did you mean --learning-rate?\\n'
"""
