"""Galleries in a PostgreSQL database: the address, the connections, and the rows in that dialect.

Needs psycopg, which `pip install 'mien[postgres]'` brings; nothing here is imported before an address is opened.
"""
