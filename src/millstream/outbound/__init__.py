"""What the server calls of its own accord: the addresses that its users give it."""
