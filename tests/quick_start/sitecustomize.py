"""Every Python process that the tests start runs this first. Without it a short run takes 1.4 times as long.

Importing PyTorch makes hundreds of thousands of objects that stay, among which Python would search for garbage again
and again. And the first optimizer imports the compiler behind torch.compile, only to tell it to leave optimizers alone.
The scripts compile nothing: where one is run as a file, it finds in the compiler's place the two functions that
optimizers call, which do nothing here.
"""

import gc
import sys
from types import ModuleType

gc.set_threshold(1_000_000, 50, 100)

if any(argument.endswith(".py") for argument in sys.orig_argv):
    compiler = ModuleType("torch._dynamo")
    compiler.disable = lambda function, *_, **how: function
    compiler.graph_break = lambda: None
    sys.modules["torch._dynamo"] = compiler
