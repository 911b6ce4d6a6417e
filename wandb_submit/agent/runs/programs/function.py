"""One run of a sweep whose runs are calls of a function: the program that `python train.py` would be.

`WANDB_SUBMIT_FUNCTION` names the file that `wandb_submit.submission.function` has written. The function is called as
`wandb.agent(function=...)` calls it, without arguments, but in a process of its own: what it raises, it exits with.

What the function knew of `__main__` is there as `__main__`'s again, for workers that look it up by name: those of
`multiprocessing` that are spawned run this file, too, as `__mp_main__`.
"""

from __future__ import annotations

import linecache
import os
import pickle
import sys

# Modules that lie beside this file are not to stand in for others.
if os.path.abspath(sys.path[0]) == os.path.dirname(os.path.abspath(__file__)):  # noqa: PTH100, PTH120 light
    del sys.path[0]

with open(os.environ["WANDB_SUBMIT_FUNCTION"], "rb") as _file:  # noqa: PTH123 light
    _about = pickle.load(_file)  # noqa: S301 its owner's own file, which nobody else may write
    if _about["python"] not in (None, sys.version_info[:2]):  # each has code of its own, and may crash on another's
        _version = ".".join(map(str, _about["python"]))
        sys.exit(f"the function is of Python {_version}, and {sys.executable} is another version: name one of that")
    sys.path[:0] = [_folder for _folder in _about["folders"] if _folder not in sys.path]
    for _name, _lines in _about["sources"].items():  # of notebook cells, for tracebacks
        linecache.cache[_name] = (sum(map(len, _lines)), None, _lines, _name)
    _reader = pickle.Unpickler(_file)  # noqa: S301 likewise
    try:
        _function = _reader.load()
        _of_main, _knows_main = _reader.load()
    except ImportError as _error:
        _error.args = (f"{_error.args[0]} (while reading the function, under {sys.executable})",)
        raise

for _one in _knows_main:
    globals().update({_name: _value for _name, _value in _one.__globals__.items() if not _name.startswith("__")})
globals().update(_of_main)

if __name__ == "__main__":
    _function()
