"""`millstream demo`: a server under real work, twice, and a check of every result."""
