"""The recycling application: real models, real servers, and no cache code but the declarations."""
