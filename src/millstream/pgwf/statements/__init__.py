"""Every statement: its arguments checked, its text, and what its rows mean. Nothing in here talks to a database."""
