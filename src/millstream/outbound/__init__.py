"""What the server sends to others: mail."""
