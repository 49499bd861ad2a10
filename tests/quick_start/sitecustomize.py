"""Python runs a module of this name at the start of every process, here of those that the tests start.

It saves time and changes nothing that is computed; without it a short run takes 1.4 times as long.

1. Importing PyTorch makes hundreds of thousands of objects that stay. Python would search them for garbage again and
   again; here it searches rarely.
2. When a process makes its first optimiser, PyTorch imports its compiler, the module `torch._dynamo`. That takes about
   two seconds, although no script compiles anything. Optimisers call two functions of the compiler, `disable` and
   `graph_break`, which without compilation do nothing. So before PyTorch asks for the compiler, a process that runs a
   script gets a module of the same name that has these two functions only.
"""

import gc
import sys
from types import ModuleType


def disable(function, recursive=True, wrapping=True):
    """Keep a function out of what is compiled: nothing is, so that this is the function itself."""
    return function


def graph_break():
    """End the piece that is being compiled: there is none."""


gc.set_threshold(1_000_000, 50, 100)

runs_a_script = any(argument.endswith(".py") for argument in sys.orig_argv)
if runs_a_script:
    stand_in = ModuleType("torch._dynamo")
    stand_in.disable = disable
    stand_in.graph_break = graph_break
    # Modules that are in sys.modules count as imported, so that Python does not load the compiler any more
    sys.modules["torch._dynamo"] = stand_in
