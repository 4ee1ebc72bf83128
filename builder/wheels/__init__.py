"""Wheels: as published or built from the sdist, and smoke-tested."""
