"""The HTTP service: what the command line does, for many users over one gallery or several.

Needs the extra `serve`: ``pip install 'mien[serve]'``. Started by ``mien serve``; see docs/http.md.
"""
