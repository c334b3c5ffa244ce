"""Clients of model APIs: each provider's official library behind one small protocol (:mod:`.protocol`)."""
