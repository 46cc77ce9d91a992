"""From IR and model graph to steps, their cost, and their execution."""
