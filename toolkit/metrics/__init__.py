"""Measures as pure functions on strings, numbers and arrays."""
