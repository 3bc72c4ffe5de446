"""The command `xorjax`."""
