"""Files of weights in the layouts of other code: recognised by their keys, completed by options, made into models."""
