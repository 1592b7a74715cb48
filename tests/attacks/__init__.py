"""Attacks on the whole of minires: odd calls, odd command lines, damaged files, kills while saving, runs at one time.

`python -m tests.attacks` runs all of them at full size and prints the tables kept in evidence.md; a name (calls,
command_lines, damaged_files, kills, pairs) runs one; numbers after it say how many, and from which seed. The same seed
gives the same attacks.
"""
