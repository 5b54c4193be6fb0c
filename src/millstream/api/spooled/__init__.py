"""The Spooled-compatible dialect of the jobs API."""
