"""Soak: the real program for minutes or hours before a camera that misbehaves, every published frame judged.

    python -m tests.soak --minutes 10 --faults

A qualification, not a test of the suite: it takes its time, and its figures depend on the machine.
"""
