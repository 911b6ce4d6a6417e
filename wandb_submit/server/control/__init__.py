"""Starting, stopping and finding the offline server, from outside of its process."""
