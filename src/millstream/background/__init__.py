"""Loops beside the requests. Each makes one engine call, and each is safe on several processes at once."""
