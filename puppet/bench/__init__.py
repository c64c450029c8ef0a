"""`python -m puppet bench`: how fast this machine is, stage by stage and end to end, with every engine it has.

Variants take turns in short slices, so that what else the machine does meets all of them alike; compare them by ratio.
"""
