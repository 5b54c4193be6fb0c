"""The only layer that speaks SQL to the server's own database."""
