"""Loading and building models: one file per source."""
