"""The recycling application's service: the document's endpoints on FastAPI."""
