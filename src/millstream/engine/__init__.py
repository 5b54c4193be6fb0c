"""Use cases, transaction boundaries, group commit and events: the only caller of `store`."""
