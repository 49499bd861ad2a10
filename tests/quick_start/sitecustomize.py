"""Every Python process that the tests start runs this first. Without it a short run takes 1.4 times as long.

Importing PyTorch makes hundreds of thousands of objects that stay, among which Python would search for garbage again
and again: here it searches rarely.

The first optimizer of a process imports PyTorch's compiler, the module torch._dynamo, which takes seconds. It calls
only the two functions below, which have nothing to do without torch.compile, and no script uses that. So a script that
is run as a file finds a module of that name with these two functions alone.
"""

import gc
import sys
from types import ModuleType


def disable(function, recursive=True, wrapping=True):
    """The compiler's returns the function, kept out of what is compiled."""
    return function


def graph_break():
    """The compiler's ends a piece of what is compiled."""


gc.set_threshold(1_000_000, 50, 100)

runs_a_file = any(argument.endswith(".py") for argument in sys.orig_argv)
if runs_a_file:
    small_compiler = ModuleType("torch._dynamo")
    small_compiler.disable = disable
    small_compiler.graph_break = graph_break
    sys.modules["torch._dynamo"] = small_compiler  # `import torch._dynamo` finds it here and loads nothing
