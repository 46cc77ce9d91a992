-- The tables of results.duckdb as schema version 1 had them (measurements as wide as there are axes).
CREATE TABLE artifacts(run_id INTEGER, kind VARCHAR, "name" VARCHAR, path VARCHAR, "text" VARCHAR, sha256 VARCHAR, bytes BIGINT);
CREATE TABLE cells(run_id INTEGER, stage VARCHAR, node_key VARCHAR, "name" VARCHAR, kind VARCHAR, status VARCHAR, reused_from VARCHAR, "seconds" DOUBLE, cpu_seconds DOUBLE, forwards BIGINT, layer_tokens DOUBLE, flops BIGINT, bytes BIGINT, peak_bytes BIGINT);
CREATE TABLE checks(run_id INTEGER, experiment VARCHAR, "text" VARCHAR, message VARCHAR, passed BOOLEAN, observed VARCHAR, line BIGINT);
CREATE TABLE datasets(run_id INTEGER, "name" VARCHAR, "ref" VARCHAR, args JSON, fingerprint VARCHAR, "rows" BIGINT, rows_total BIGINT, provenance VARCHAR, ineligible JSON);
CREATE TABLE diagnostics(run_id INTEGER, severity VARCHAR, code VARCHAR, message VARCHAR, file VARCHAR, line BIGINT, col BIGINT, "label" VARCHAR, help VARCHAR);
CREATE TABLE environments(run_id INTEGER, env_hash VARCHAR, midsl VARCHAR, torch VARCHAR, python VARCHAR, platform VARCHAR, git_commit VARCHAR, git_dirty BOOLEAN, details JSON);
CREATE TABLE measurements(run_id INTEGER, experiment VARCHAR, report VARCHAR, layer BIGINT, head BIGINT, pos BIGINT, example BIGINT, batch BIGINT, feature BIGINT, neuron BIGINT, src_layer BIGINT, src_head BIGINT, src_pos BIGINT, src_feature BIGINT, dst_layer BIGINT, dst_head BIGINT, dst_pos BIGINT, dst_feature BIGINT, step BIGINT, seed BIGINT, draw BIGINT, site VARCHAR, part VARCHAR, split VARCHAR, token VARCHAR, control VARCHAR, dose DOUBLE, "value" DOUBLE, n BIGINT, se DOUBLE, extra VARIANT);
CREATE TABLE meta("key" VARCHAR, "value" VARCHAR);
CREATE TABLE models(run_id INTEGER, "name" VARCHAR, "ref" VARCHAR, args JSON, arch VARCHAR, weights_sha256 VARCHAR, tokenizer_fingerprint VARCHAR, numerics VARCHAR);
CREATE TABLE "plans"(run_id INTEGER, plan_hash VARCHAR, ir VARCHAR, passes JSON, naive JSON, optimised JSON, "explain" VARCHAR);
CREATE TABLE reports(run_id INTEGER, experiment VARCHAR, report VARCHAR, unit VARCHAR, keys JSON, "rows" BIGINT, n_total BIGINT);
CREATE TABLE runs(run_id INTEGER PRIMARY KEY, run_uuid UUID, spec_name VARCHAR, spec_path VARCHAR, spec_hash VARCHAR, status VARCHAR, exit_code INTEGER, "error" VARCHAR, argv VARCHAR[], params JSON, seed BIGINT, numerics VARCHAR, started_at TIMESTAMP, finished_at TIMESTAMP, manifest_sha256 VARCHAR);
CREATE TABLE specs(spec_hash VARCHAR, "name" VARCHAR, "source" VARCHAR);
INSERT INTO meta VALUES ('schema_version', '1');
