"""The only modules that write tables: rows (commits), files in the place of others (rewrites), and their lock."""
