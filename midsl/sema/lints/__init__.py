"""Lints: what a sound spec may still get wrong as a piece of science. One file each, by id."""
