"""Hostile input: files that begin valid and are then damaged, against everything that reads a file.

The property is the same everywhere: a valid object, or one line of error. `tests/test_fuzz.py` runs a fixed short
choice; `python -m tests.fuzz --minutes 20 --target portrait` a long one, in processes of their own.
"""
