"""The embedded default: a Valkey and a worker of our own, for whoever has configured neither."""
