"""The verbs, a module each: its options, two examples, and `main(args)`, which parses, calls the library and prints."""
