"""What runs elsewhere: on nodes, and in the tree that is tried. It imports nothing of `builder`."""
