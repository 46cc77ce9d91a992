"""Rows in Parquet parts, the importer, and SQL over them."""
