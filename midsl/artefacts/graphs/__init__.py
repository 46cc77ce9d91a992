"""Graphs in files: Neuronpedia and EAP-IG (MIB) JSON, GraphML, circuit-tracer `.pt`: read and written."""
