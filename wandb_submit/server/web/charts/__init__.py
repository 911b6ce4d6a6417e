"""Charts as geometry: the templates write them as SVG, so that a browser needs no script and no other server.

matplotlib and its like weigh more than the server, pygal writes scripts and inline styles into its SVG, which our
content security policy forbids; what is needed here is small.
"""
