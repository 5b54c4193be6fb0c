"""The GoQueue-compatible HTTP dialect: topics, messages, consumer groups."""
