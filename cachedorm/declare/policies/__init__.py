"""What a model says about its cache: regions, policies and the ``Cached`` mixin."""
