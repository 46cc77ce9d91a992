"""The float64 interpreter that defines what a spec means."""
