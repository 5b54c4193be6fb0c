"""The HTTP edge that every dialect shares: routing, bodies, headers, deadlines, OpenAPI."""
