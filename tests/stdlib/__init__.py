"""The standard library: its `test` blocks hold, in the plan and in the oracle, and its words are there."""
