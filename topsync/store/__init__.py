"""PostgreSQL: a module per noun, SQL in files, migrations."""
