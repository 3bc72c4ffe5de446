"""The store of a study: a zarr v3 group in a folder, at a URL, or in any store of zarr.

Each array has one chunk for each shard, a group of neighbouring members that are trained and committed together.
The last file of a commit holds the outcomes; a member is committed once its outcome is there. Start from
`layout.Layout`, from which all metadata are derived, `manifest.find_study`, which reads the manifest, and
`shards.commit_shard`. `durable` writes files that survive a power cut, `access` has the raw operations of zarr's
stores, and `seed_ranges` the order of seeds along their axis.

>>> from xorjax.studies.store.layout import Layout, choose_shard_shape
>>> shard_shape = choose_shard_shape([3, 100], members=64)
>>> layout = Layout({"learning_rate": 3, "seed": 100}, shard_shape, (), None)
>>> layout.shard_shape, layout.shard_grid, layout.n_shards
((1, 64), (3, 2), 6)
>>> layout.label(5), layout.region(5)
('2.1', (slice(2, 3, None), slice(64, 100, None)))
"""
