"""The web page: what the server holds, for people to look at. It only reads."""
