"""Helpers for testing software that reads or writes ndx-nuclr."""
