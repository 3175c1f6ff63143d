"""Primitives and the rules for using them. Nothing here reads a clock, opens a file or keeps a session's state."""
