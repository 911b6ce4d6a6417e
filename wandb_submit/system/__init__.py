"""What any program on this machine needs: processes, files, threads."""
