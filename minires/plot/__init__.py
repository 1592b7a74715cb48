"""Every picture minires makes. One family of pictures a file; `style` holds what they share.

matplotlib is imported here and nowhere below: import `minires.plot` inside the function that draws.
"""
