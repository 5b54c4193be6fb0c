"""Thin edges: they translate a protocol to engine calls and back; no state, no decisions."""
