"""The results store: one folder per run is the truth, ``results.duckdb`` an index made from it.

rows.py     what the executor hands over: result tables, checks, cells, artifacts
record.py   what is known of a run before it starts, and `environment()`
lock.py     file locks and atomic writes
schema.py   the tables, their columns, the axis columns, the schema version
parts.py    Python rows -> in-memory tables -> Parquet
writer.py   `RunWriter`: stages of a run, each committed by one replacement of ``manifest.json``
importer.py run folders -> ``results.duckdb``
views.py    ``experiment.report`` views, `results`, `latest_results`
tables.py   reports back from parts or from the database
runs.py     one run by what people call it, with all that was recorded of it
compare.py  two runs side by side
export.py   reports as Parquet, CSV and Arrow files
db.py       `Store`: begin, import_runs, query, runs
"""
