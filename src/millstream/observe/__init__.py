"""What an operator sees: logs and metrics; and the signals by which tests watch loops."""
