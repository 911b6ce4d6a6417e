"""Where array tasks run: each executor turns a `SubmissionSpec` into jobs and tells what became of them."""
