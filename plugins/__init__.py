"""Everything with a world outside: the command line, and later a server and bridges to other engines."""
