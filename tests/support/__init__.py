"""What tests share: small models, oracles, foreign layouts, the command line and its refusals."""
