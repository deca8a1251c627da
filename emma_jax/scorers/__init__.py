"""Back ends with models from packages or the user's files; see make.py."""
