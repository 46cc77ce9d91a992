"""What editors ask of a spec, as plain functions of a text and a place."""
