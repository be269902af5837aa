"""PostgreSQL: one module per noun, SQL in files, migrations."""
