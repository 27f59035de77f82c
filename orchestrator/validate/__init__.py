"""Compares a release with the last good one, by six checks, each of which computes what it says.

values says what a check gets and gives; sides makes a side of a folder, baseline finds the release to compare with;
runner runs all six; results is what is told of them, waivers what may pass although it should not.
"""
