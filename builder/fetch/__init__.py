"""Fetch: every file of a lock, in the cache, by its checksum."""
