"""Results as tables, figures, one HTML page.

Every report goes one way: `summary.report_statistics` gathers streaming statistics (of an ensemble, a `sweep`, or
a study in a store), `summary.summarize` makes the dictionary of them that `--json` writes, and
`tables.print_report`, `figures` and `page` show it. `published` has the tutorial's results to compare with.

>>> import optax, xorjax as xj
>>> from xorjax.reports.summary import FIELDS, report_statistics, summarize
>>> trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(5.0), epochs=300)
>>> statistics = report_statistics({(): FIELDS}, xj.xor())
>>> summary = summarize(xj.train_ensemble(trainer, range(20), reduce=statistics), {}, range(20))
>>> summary["members"], sum(ended["members"] for ended in summary["ended_as"])
(20, 20)
"""
