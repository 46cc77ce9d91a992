"""The command line as people meet it: whole commands, their output, exit codes and rows."""
