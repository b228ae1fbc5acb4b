"""Atomic writes, locks and content hashes of files."""
