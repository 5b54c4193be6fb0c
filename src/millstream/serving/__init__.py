"""Processes and listeners: runs an `App` behind HTTP ports, alone or as a parent with children."""
