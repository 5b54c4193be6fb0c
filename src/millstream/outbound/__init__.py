"""What the server sends to others: mail, and webhooks to the addresses that its users give it."""
