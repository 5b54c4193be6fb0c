"""Leased jobs with dependencies as functions of your own PostgreSQL, called inside your own transactions."""
