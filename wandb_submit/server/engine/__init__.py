"""The search process: W&B's own engine, the package `sweeps`, in a process beside the server.

The engine takes a second or two to import and 100 MB, and it computes for seconds: in the server it would hold up
everybody's heartbeats. Here it reads the database by itself, and the server writes down what it answers.
"""
