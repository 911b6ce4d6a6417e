"""Bringing an offline sweep onward, to W&B or to another server of ours."""
