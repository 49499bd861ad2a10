"""Every Python process that the tests start runs this first. Importing PyTorch makes millions of objects that stay, and
Python's search for garbage among them is a quarter of the import's time; here it searches more rarely."""

import gc

gc.set_threshold(100_000, 50, 100)
