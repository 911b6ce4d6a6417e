"""Runs a module of this environment as a program, without the current folder on `sys.path`: see `python_argv`."""

import sys

# A script's own folder stands first unless Python was told not to; modules of ours are not to stand in for others.
if sys.path[0] == __file__.rpartition("/")[0]:
    del sys.path[0]

import runpy

del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
