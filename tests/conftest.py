"""The tests compare bits, which a CPU repeats: they hide any GPU."""

import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent / "quick_start"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
