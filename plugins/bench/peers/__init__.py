"""Other engines, each in a file that imports the standard library and that engine, no more."""
