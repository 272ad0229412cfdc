"""The command line: `main`, option groups, and a module a verb in `commands`. It parses, calls the library, prints."""
