"""Resolve: versions and constraints become a lock."""
