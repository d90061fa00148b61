"""Receives and handles events, which are the notifications that a storage sends when an object changes."""
